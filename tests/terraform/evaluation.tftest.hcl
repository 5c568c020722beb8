mock_provider "aws" {
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:headrace" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headrace" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::headrace-weights" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:headrace-alarms" }
  }
  mock_resource "aws_eks_cluster" {
    defaults = { vpc_config = { cluster_security_group_id = "sg-0123456789abcdef0" } }
  }
  mock_resource "aws_rds_cluster" {
    defaults = { master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds", kms_key_id = "key", secret_status = "active" }] }
  }
  mock_data "aws_secretsmanager_secret_version" {
    defaults = {
      arn           = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:valkey"
      secret_string = "a-token-of-a-test-0123456789"
    }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  region              = "eu-central-1"
  zones               = ["eu-central-1a", "eu-central-1b"]
  administrators      = ["arn:aws:iam::123456789012:role/platform"]
  gpu_pools           = { flash = { instance_type = "g6e.12xlarge", node_count = { max = 2 } } }
  model_bucket        = "headrace-weights"
  valkey_auth_secrets = { limits = "headrace/limits", ray = "headrace/ray" }
  monthly_usd         = 5000
  emails              = ["oncall@example.com"]
}

run "the_whole_environment_can_be_planned_before_anything_exists" {
  command = plan
}

run "the_chart_learns_where_things_are_and_no_secret" {
  assert {
    condition     = yamldecode(output.helm_values).pools.flash.nodes_max == 2 && yamldecode(output.helm_values).valkeys.limits.tls && yamldecode(output.helm_values).models.bucket == "headrace-weights"
    error_message = "The chart would not find its way."
  }
  assert {
    condition     = !strcontains(output.helm_values, "a-token-of-a-test")
    error_message = "A token is in the chart's values."
  }
}
