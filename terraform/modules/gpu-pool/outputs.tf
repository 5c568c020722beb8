output "pools" {
  description = "What a model's placement may name: each pool's label, taint and bound."
  value = {
    for name, pool in var.gpu_pools : name => {
      node_selector = { "headrace.dev/pool" = name }
      taint         = "nvidia.com/gpu"
      instance_type = pool.instance_type
      nodes_max     = pool.node_count.max
    }
  }
}
