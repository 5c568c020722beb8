variable "cluster_name" {
  description = "EKS cluster that the pools join."
  type        = string
}

variable "cluster_security_group_id" {
  description = "Security group of the cluster's nodes."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the cluster."
  type        = string
}

variable "node_role_arn" {
  description = "IAM role of the nodes."
  type        = string
}

variable "subnet_ids_by_zone" {
  description = "Private subnets by availability zone."
  type        = map(string)
}

variable "gpu_pools" {
  description = "GPU node pools, keyed by the name that models refer to in `placement.pool`. `node_count.max` is the bound on cost and has no default. A pool with EFA or a reservation is bound to one zone."
  type = map(object({
    instance_type = string
    node_count    = object({ min = optional(number, 0), max = number })
    zone          = optional(string)
    efa           = optional(bool, false)
    disk_gib      = optional(number, 500)
    labels        = optional(map(string), {})
    reservation   = optional(object({ id = string, kind = string }))
  }))

  validation {
    condition     = alltrue([for name in keys(var.gpu_pools) : can(regex("^[a-z][a-z0-9-]{0,29}$", name))])
    error_message = "gpu_pools: a name is 1 to 30 lower-case letters, digits and dashes."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.node_count.min >= 0 && pool.node_count.min <= pool.node_count.max && pool.node_count.max >= 1 && pool.node_count.max <= 100])
    error_message = "gpu_pools: node_count needs 0 <= min <= max and 1 <= max <= 100."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.disk_gib >= 100 && pool.disk_gib <= 16384])
    error_message = "gpu_pools: disk_gib is 100 to 16384."
  }
  validation {
    condition     = alltrue([for pool in var.gpu_pools : pool.reservation == null ? true : contains(["on-demand", "capacity-block"], pool.reservation.kind) && can(regex("^cr-[0-9a-f]{8,17}$", pool.reservation.id))])
    error_message = "gpu_pools: a reservation has an id like cr-0123456789abcdef0 and a kind, on-demand or capacity-block."
  }
}
