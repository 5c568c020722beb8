# What AWS alone can see: full disks of memory and databases that wait. What the services see of themselves is
# Prometheus' part, inside the cluster.

locals {
  valkey_members = merge([for use, members in var.valkey_members : { for member in members : member => use }]...)
}

resource "aws_cloudwatch_log_group" "services" {
  #checkov:skip=CKV_AWS_338:Services' logs help to find faults; what has to be kept for years is in the ledger and in the control plane's audit log
  name              = "/${var.name}/services"
  retention_in_days = var.retention_days
  kms_key_id        = aws_kms_key.this.arn
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.this.arn
}

# CloudWatch cannot publish to a topic under AWS's own SNS key, hence one whose policy lets it.
resource "aws_kms_key" "this" {
  description             = "Alarms and logs of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 7

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AccountAdministers"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "CloudWatchPublishes"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      },
      {
        Sid       = "LogsAreWritten"
        Effect    = "Allow"
        Principal = { Service = "logs.amazonaws.com" }
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:DescribeKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      },
    ]
  })
}

data "aws_caller_identity" "current" {}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_metric_alarm" "valkey_memory" {
  for_each = local.valkey_members

  alarm_name          = "${var.name}-${each.key}-memory"
  alarm_description   = "Valkey for ${each.value} evicts nothing: full, it refuses writes, and admission stops."
  namespace           = "AWS/ElastiCache"
  metric_name         = "DatabaseMemoryUsagePercentage"
  dimensions          = { CacheClusterId = each.key }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 70
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "database" {
  for_each = {
    # The capacity's ceiling: beyond it ingestion falls behind, though nothing is lost.
    capacity = { metric = "ACUUtilization", threshold = 90, meaning = "Aurora is at its capacity's ceiling." }
    cpu      = { metric = "CPUUtilization", threshold = 85, meaning = "Aurora computes without a pause." }
  }

  alarm_name          = "${var.name}-database-${each.key}"
  alarm_description   = each.value.meaning
  namespace           = "AWS/RDS"
  metric_name         = each.value.metric
  dimensions          = { DBClusterIdentifier = var.database_cluster_id }
  statistic           = "Average"
  period              = 60
  evaluation_periods  = 10
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
