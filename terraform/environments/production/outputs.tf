output "helm_values" {
  description = "What a chart's values need to know of this environment, as YAML. No secret is in it, only where each is kept."
  value = yamlencode({
    region   = var.region
    cluster  = module.cluster.name
    database = module.data.postgres
    valkeys  = { for use, valkey in module.data.valkeys : use => { host = valkey.host, port = valkey.port, tls = true, secret_arn = valkey.secret_arn } }
    models   = { bucket = module.model_store.bucket }
    pools    = module.gpu_pool.pools
  })
}
