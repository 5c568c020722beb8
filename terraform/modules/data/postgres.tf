# The ledger. Its password is made, kept and rotated by AWS: it is in no variable and in no state.

resource "aws_kms_key" "this" {
  description             = "Databases of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AccountAdministers"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

data "aws_caller_identity" "current" {}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_rds_cluster_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "aurora-postgresql${split(".", var.postgres.version)[0]}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # Who changed a table, and what takes long; never every statement, for those carry customers' figures.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "2000"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_rds_cluster" "this" {
  #checkov:skip=CKV_AWS_133:backup_days is 7 to 35 by the variable's validation, which checkov doesn't follow
  #checkov:skip=CKV_AWS_139:deletion_protection is on unless an environment says otherwise; checkov doesn't follow optional attributes
  #checkov:skip=CKV_AWS_162:Services sign in by the password that AWS rotates; a second way in would be one more to watch
  #checkov:skip=CKV2_AWS_8:Continuous backup restores to any second of up to 35 days; copies in another account are the organisation's to plan
  cluster_identifier = var.name
  engine             = "aurora-postgresql"
  engine_mode        = "provisioned"
  engine_version     = var.postgres.version
  database_name      = "headrace"

  master_username               = "headrace"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.this.key_id

  db_subnet_group_name            = aws_db_subnet_group.this.name
  db_cluster_parameter_group_name = aws_rds_cluster_parameter_group.this.name
  vpc_security_group_ids          = [aws_security_group.this["postgres"].id]

  storage_encrypted = true
  kms_key_id        = aws_kms_key.this.arn

  # Continuous backup: any second within these days can be restored.
  backup_retention_period   = var.postgres.backup_days
  copy_tags_to_snapshot     = true
  deletion_protection       = var.postgres.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-final"

  enabled_cloudwatch_logs_exports = ["postgresql"]

  serverlessv2_scaling_configuration {
    min_capacity = var.postgres.capacity.min
    max_capacity = var.postgres.capacity.max
  }
}

resource "aws_rds_cluster_instance" "this" {
  #checkov:skip=CKV_AWS_226:A minor upgrade restarts the ledger's writer, so it is applied by changing `version`, when somebody looks on
  count = var.postgres.instances

  identifier          = "${var.name}-${count.index + 1}"
  cluster_identifier  = aws_rds_cluster.this.id
  engine              = aws_rds_cluster.this.engine
  engine_version      = aws_rds_cluster.this.engine_version
  instance_class      = "db.serverless"
  publicly_accessible = false

  performance_insights_enabled    = true
  performance_insights_kms_key_id = aws_kms_key.this.arn
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.monitoring.arn

  auto_minor_version_upgrade = false
}

resource "aws_iam_role" "monitoring" {
  name_prefix = "${var.name}-rds-"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}
