# To try it out: the same parts and the same guards, without the second of each.

locals {
  environment = "evaluation"
  name        = "headrace-evaluation"
  namespace   = "headrace"

  system_nodes = { count = { min = 2, max = 4 } }
  postgres     = { capacity = { min = 0.5, max = 4 }, instances = 1, backup_days = 7 }
  valkeys = {
    limits = { auth_secret = var.valkey_auth_secrets.limits, node_type = "cache.t4g.medium", replicas = 0 }
    ray    = { auth_secret = var.valkey_auth_secrets.ray, node_type = "cache.t4g.medium", replicas = 0 }
  }
}

module "network" {
  source = "../../modules/network"

  name   = local.name
  region = var.region
  cidr   = "10.41.0.0/16"
  zones  = var.zones
}

module "cluster" {
  source = "../../modules/cluster"

  name           = local.name
  subnet_ids     = values(module.network.private_subnet_ids)
  administrators = var.administrators
  system_nodes   = local.system_nodes
}

module "gpu_pool" {
  source = "../../modules/gpu-pool"

  cluster_name              = module.cluster.name
  cluster_security_group_id = module.cluster.security_group_id
  vpc_id                    = module.network.vpc_id
  node_role_arn             = module.cluster.node_role_arn
  subnet_ids_by_zone        = module.network.private_subnet_ids
  gpu_pools                 = var.gpu_pools
}

module "data" {
  source = "../../modules/data"

  name                     = local.name
  vpc_id                   = module.network.vpc_id
  subnet_ids               = values(module.network.private_subnet_ids)
  client_security_group_id = module.cluster.security_group_id
  postgres                 = local.postgres
  valkeys                  = local.valkeys
}

module "model_store" {
  source = "../../modules/model-store"

  bucket = var.model_bucket
}

data "aws_secretsmanager_secret" "auth" {
  name = var.auth_secret
}

module "identity" {
  source = "../../modules/identity"

  cluster_name = module.cluster.name
  services = {
    engine = {
      namespace       = local.namespace
      service_account = "headrace-engine"
      reads_bucket    = module.model_store.bucket_arn
      keys            = [module.model_store.kms_key_arn]
    }
    # Carries passwords from Secrets Manager into the Kubernetes secrets that the chart names.
    secrets = {
      namespace       = "external-secrets"
      service_account = "external-secrets"
      reads_secrets   = concat([data.aws_secretsmanager_secret.auth.arn, module.data.postgres.secret_arn], [for valkey in module.data.valkeys : valkey.secret_arn])
      keys            = [module.data.kms_key_arn]
    }
  }
}

module "observability" {
  source = "../../modules/observability"

  name                = local.name
  emails              = toset(var.emails)
  database_cluster_id = module.data.postgres.cluster_id
  valkey_members      = { for use, valkey in module.data.valkeys : use => toset(valkey.members) }
}

module "budget" {
  source = "../../modules/budget"

  name        = local.name
  monthly_usd = var.monthly_usd
  emails      = var.emails
  tag         = { key = "environment", value = local.environment }
}
