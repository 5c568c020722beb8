output "postgres" {
  description = "Where the ledger is, and the secret (JSON with username and password) that opens it."
  value = {
    cluster_id = aws_rds_cluster.this.cluster_identifier
    host       = aws_rds_cluster.this.endpoint
    port       = 5432
    database   = aws_rds_cluster.this.database_name
    secret_arn = one(aws_rds_cluster.this.master_user_secret).secret_arn
  }
}

output "valkeys" {
  description = "Where each Valkey is (TLS), the secret with its token, and its members, by use."
  value = {
    for use, group in aws_elasticache_replication_group.this : use => {
      host       = group.primary_endpoint_address
      port       = 6379
      secret_arn = data.aws_secretsmanager_secret_version.valkey[use].arn
      # ElastiCache names members so; computed here, since alarms are keyed by names known before they exist.
      members = [for index in range(var.valkeys[use].replicas + 1) : format("%s-%s-%03d", var.name, use, index + 1)]
    }
  }
}

output "kms_key_arn" {
  description = "Key that whoever reads the ledger's password must be allowed to use."
  value       = aws_kms_key.this.arn
}
