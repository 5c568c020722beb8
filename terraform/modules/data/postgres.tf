# The ledger. Its password is made, kept and rotated by AWS: it is in no variable and in no state.

resource "aws_kms_key" "this" {
  description             = "Databases of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

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

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_rds_cluster" "this" {
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
  count = var.postgres.instances

  identifier                   = "${var.name}-${count.index + 1}"
  cluster_identifier           = aws_rds_cluster.this.id
  engine                       = aws_rds_cluster.this.engine
  engine_version               = aws_rds_cluster.this.engine_version
  instance_class               = "db.serverless"
  publicly_accessible          = false
  performance_insights_enabled = true
  auto_minor_version_upgrade   = false
}
