output "gpu_profiles" {
  description = "The chart's `gpuProfiles`: the pools whose GPUs the catalogue of models knows. Others are for whoever installs to describe."
  value = {
    for name, pool in var.gpu_pools : name => {
      engine              = local.gpus[pool.instance_type].profile
      resourceName        = "nvidia.com/gpu"
      acceleratorsPerNode = local.gpus[pool.instance_type].count
      nodeSelector        = { "headrace.dev/pool" = name }
      tolerations         = [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }]
    } if contains(keys(local.gpus), pool.instance_type)
  }
}

output "gpus_max" {
  description = "How many GPUs each of those pools can have, which is as much as deployments may ask for."
  value       = { for name, pool in var.gpu_pools : name => pool.node_count.max * local.gpus[pool.instance_type].count if contains(keys(local.gpus), pool.instance_type) }
}
