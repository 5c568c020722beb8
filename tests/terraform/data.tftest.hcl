mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headrace" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
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
}

variables {
  name                     = "headrace"
  vpc_id                   = "vpc-0123456789abcdef0"
  subnet_ids               = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  client_security_group_id = "sg-0123456789abcdef0"
  postgres                 = { capacity = { min = 1, max = 16 } }
  valkeys = {
    limits = { auth_secret = "headrace/valkey-limits", node_type = "cache.r7g.large" }
    ray    = { auth_secret = "headrace/valkey-ray", node_type = "cache.t4g.medium", replicas = 0 }
  }
}

run "the_ledger_is_encrypted_restorable_and_hard_to_delete" {
  assert {
    condition     = aws_rds_cluster.this.storage_encrypted && aws_rds_cluster.this.deletion_protection && aws_rds_cluster.this.backup_retention_period == 35 && !aws_rds_cluster.this.skip_final_snapshot
    error_message = "The ledger could be lost."
  }
  assert {
    condition     = aws_rds_cluster.this.manage_master_user_password && aws_rds_cluster.this.master_password == null
    error_message = "The password is not AWS's to keep."
  }
  assert {
    condition     = contains([for p in aws_rds_cluster_parameter_group.this.parameter : "${p.name}=${p.value}"], "rds.force_ssl=1") && aws_rds_cluster_parameter_group.this.family == "aurora-postgresql17"
    error_message = "Postgres answers without TLS."
  }
}

run "both_valkeys_are_encrypted_evict_nothing_and_fail_over_where_they_have_a_replica" {
  assert {
    condition     = alltrue([for v in aws_elasticache_replication_group.this : v.transit_encryption_enabled && v.at_rest_encryption_enabled == "true" && v.auth_token != null])
    error_message = "A Valkey answers without TLS or a token."
  }
  assert {
    condition     = one(aws_elasticache_parameter_group.this.parameter).value == "noeviction"
    error_message = "Valkey may drop leases."
  }
  assert {
    condition     = aws_elasticache_replication_group.this["limits"].automatic_failover_enabled && !aws_elasticache_replication_group.this["ray"].automatic_failover_enabled
    error_message = "Failover follows the replicas."
  }
  assert {
    condition     = jsonencode(output.valkeys.limits.members) == jsonencode(["headrace-limits-001", "headrace-limits-002"])
    error_message = "The members' names are wrong."
  }
}

run "only_the_cluster_reaches_the_databases" {
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.cluster) == 3 && alltrue([for r in aws_vpc_security_group_ingress_rule.cluster : r.cidr_ipv4 == null && r.referenced_security_group_id == var.client_security_group_id])
    error_message = "A database is open to more than the cluster."
  }
}

run "a_token_that_elasticache_would_refuse_is_refused_first" {
  command = plan
  override_data {
    target          = data.aws_secretsmanager_secret_version.valkey
    override_during = plan
    values          = { secret_string = "short" }
  }
  expect_failures = [aws_elasticache_replication_group.this]
}

run "one_valkey_for_both_uses_is_refused" {
  command = plan
  variables {
    valkeys = { limits = { auth_secret = "a", node_type = "cache.r7g.large" } }
  }
  expect_failures = [var.valkeys]
}

run "a_secret_shared_by_both_valkeys_is_refused" {
  command = plan
  variables {
    valkeys = {
      limits = { auth_secret = "a", node_type = "cache.r7g.large" }
      ray    = { auth_secret = "a", node_type = "cache.r7g.large" }
    }
  }
  expect_failures = [var.valkeys]
}

run "a_day_of_backups_is_refused" {
  command = plan
  variables {
    postgres = { capacity = { min = 1, max = 16 }, backup_days = 1 }
  }
  expect_failures = [var.postgres]
}

run "a_ceiling_below_the_floor_is_refused" {
  command = plan
  variables {
    postgres = { capacity = { min = 16, max = 1 } }
  }
  expect_failures = [var.postgres]
}

run "subnets_of_one_zone_are_refused" {
  command = plan
  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }
  expect_failures = [var.subnet_ids]
}
