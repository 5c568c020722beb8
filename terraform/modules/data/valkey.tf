# Tokens are read from Secrets Manager because ElastiCache takes them only as an argument: so they are in the
# state, marked sensitive, and the state must be encrypted.

data "aws_secretsmanager_secret_version" "valkey" {
  for_each = var.valkeys

  secret_id = each.value.auth_secret
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_parameter_group" "this" {
  name        = "${var.name}-valkey8"
  family      = "valkey8"
  description = "Nothing is evicted: a lease or a hold that vanished would be money that vanished"

  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV2_AWS_50:Failover is on wherever there is a replica; an evaluation may do without, and checkov doesn't follow the count
  for_each = var.valkeys

  replication_group_id = "${var.name}-${each.key}"
  description          = "${var.name}: ${each.key}"
  engine               = "valkey"
  engine_version       = "8.0"
  node_type            = each.value.node_type
  parameter_group_name = aws_elasticache_parameter_group.this.name
  port                 = 6379

  # One primary with failover, never cluster mode: admission scripts touch keys of many slots.
  num_cache_clusters         = each.value.replicas + 1
  automatic_failover_enabled = each.value.replicas > 0
  multi_az_enabled           = each.value.replicas > 0

  subnet_group_name  = aws_elasticache_subnet_group.this.name
  security_group_ids = [aws_security_group.this[each.key].id]

  transit_encryption_enabled = true
  at_rest_encryption_enabled = true
  kms_key_id                 = aws_kms_key.this.arn
  auth_token                 = data.aws_secretsmanager_secret_version.valkey[each.key].secret_string
  auth_token_update_strategy = "ROTATE"

  snapshot_retention_limit = 7

  lifecycle {
    precondition {
      condition     = can(regex("^[A-Za-z0-9!&#$^<>-]{16,128}$", data.aws_secretsmanager_secret_version.valkey[each.key].secret_string))
      error_message = "valkeys: the secret's whole text must be a token that ElastiCache takes: 16 to 128 letters, digits or any of !&#$^<>-"
    }
  }
}
