variable "name" {
  description = "Name of the EKS cluster."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,23}$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "kubernetes_version" {
  description = "Kubernetes' minor version."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.(3[3-9]|[4-9][0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version: 1.33 or later, written as 1.33."
  }
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: at least two, in different zones."
  }
}

variable "administrators" {
  description = "ARNs of IAM roles that administer the cluster. Who created it is not among them unless named."
  type        = set(string)

  validation {
    condition     = length(var.administrators) >= 1 && alltrue([for arn in var.administrators : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", arn))])
    error_message = "administrators: at least one ARN of an IAM role; users and root are refused."
  }
}

variable "system_nodes" {
  description = "Nodes without GPUs, for the gateway, billing, Ray's head and the cluster's own services."
  type = object({
    instance_type = optional(string, "m7i.xlarge")
    count         = object({ min = number, max = number })
  })

  validation {
    condition     = var.system_nodes.count.min >= 2 && var.system_nodes.count.min <= var.system_nodes.count.max && var.system_nodes.count.max <= 50
    error_message = "system_nodes.count: 2 <= min <= max <= 50; one node alone would take everything with it."
  }
}
