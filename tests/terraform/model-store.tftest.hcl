mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::headrace-weights" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
}

variables {
  bucket = "headrace-weights"
}

run "weights_are_private_encrypted_and_recoverable" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "The bucket can be made public."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.this.arn
    error_message = "The bucket is not encrypted with its own key."
  }
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled" && aws_kms_key.this.enable_key_rotation
    error_message = "Versions are not kept, or the key is never rotated."
  }
}

run "plain_http_is_denied" {
  assert {
    condition     = jsondecode(aws_s3_bucket_policy.tls_only.policy).Statement[0].Effect == "Deny" && jsondecode(aws_s3_bucket_policy.tls_only.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"
    error_message = "The bucket answers without TLS."
  }
}

run "a_bucket_name_with_dots_is_refused" {
  command = plan
  variables {
    bucket = "weights.headrace.example"
  }
  expect_failures = [var.bucket]
}

run "keeping_no_old_versions_is_refused" {
  command = plan
  variables {
    old_version_days = 0
  }
  expect_failures = [var.old_version_days]
}
