output "helm_values" {
  description = "The chart's values that follow from this environment, as YAML. No secret is in it, only where each is kept."
  value = yamlencode({
    database = { port = module.data.postgres.port, cidrs = [module.network.cidr] }
    valkey   = { port = module.data.valkeys.limits.port, cidrs = [module.network.cidr] }
    gcs = {
      address = "rediss://${module.data.valkeys.ray.host}:${module.data.valkeys.ray.port}"
      cidrs   = [module.network.cidr]
    }
    externalSecrets = {
      auth     = { key = data.aws_secretsmanager_secret.auth.arn }
      database = { key = module.data.postgres.secret_arn, host = module.data.postgres.host, port = module.data.postgres.port, name = module.data.postgres.database }
      valkey   = { key = module.data.valkeys.limits.secret_arn, host = module.data.valkeys.limits.host, port = module.data.valkeys.limits.port, tls = true }
      gcs      = { key = module.data.valkeys.ray.secret_arn }
    }
    gpuProfiles = module.gpu_pool.gpu_profiles
    engine      = { sharedQuota = module.gpu_pool.gpus_max }
  })
}

output "environment" {
  description = "What people and scripts ask for by name: region, cluster, and the bucket that weights go into."
  value = {
    region  = var.region
    cluster = module.cluster.name
    bucket  = module.model_store.bucket
  }
}
