mock_provider "aws" {
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:headrace-alarms" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  name                = "headrace"
  emails              = ["oncall@example.com"]
  database_cluster_id = "headrace"
  valkey_members      = { limits = ["headrace-limits-001", "headrace-limits-002"], ray = ["headrace-ray-001"] }
}

run "each_valkey_member_and_the_database_are_watched_and_somebody_is_told" {
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.valkey_memory) == 3 && length(aws_cloudwatch_metric_alarm.database) == 2
    error_message = "Something is not watched."
  }
  assert {
    condition     = alltrue([for a in concat(values(aws_cloudwatch_metric_alarm.valkey_memory), values(aws_cloudwatch_metric_alarm.database)) : contains(a.alarm_actions, aws_sns_topic.alarms.arn) && a.treat_missing_data == "breaching"])
    error_message = "An alarm tells nobody, or takes silence for health."
  }
}

run "alarms_that_tell_nobody_are_refused" {
  command = plan
  variables {
    emails = []
  }
  expect_failures = [var.emails]
}

run "a_retention_that_cloudwatch_lacks_is_refused" {
  command = plan
  variables {
    retention_days = 31
  }
  expect_failures = [var.retention_days]
}
