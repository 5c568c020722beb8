variable "region" {
  description = "AWS region."
  type        = string
}

variable "zones" {
  description = "Availability zones, by name."
  type        = list(string)
}

variable "administrators" {
  description = "ARNs of IAM roles that administer the cluster."
  type        = set(string)
}

variable "gpu_pools" {
  description = "GPU node pools, as the module gpu-pool takes them."
  type = map(object({
    instance_type = string
    node_count    = object({ min = optional(number, 0), max = number })
    zone          = optional(string)
    efa           = optional(bool, false)
    disk_gib      = optional(number, 500)
    labels        = optional(map(string), {})
    reservation   = optional(object({ id = string, kind = string }))
  }))
}

variable "model_bucket" {
  description = "Name of the bucket for weights; unique in all of AWS."
  type        = string
}

variable "auth_secret" {
  description = "Name of the Secrets Manager secret (JSON) with `admin-token`, `ingest-token` and `signing-key`; made beforehand."
  type        = string
}

variable "valkey_auth_secrets" {
  description = "Names of the Secrets Manager secrets that hold the tokens of the two Valkeys; made beforehand."
  type        = object({ limits = string, ray = string })
}

variable "monthly_usd" {
  description = "What a month may cost before people are told."
  type        = number
}

variable "emails" {
  description = "Who is told of alarms and of the budget."
  type        = list(string)
}
