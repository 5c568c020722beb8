variable "name" {
  description = "Prefix of the databases."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,23}$", var.name))
    error_message = "name: 3 to 24 lower-case letters, digits and dashes, beginning with a letter."
  }
}

variable "vpc_id" {
  description = "VPC that the databases live in."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids: at least two, in different zones."
  }
}

variable "client_security_group_id" {
  description = "Security group of the cluster's nodes and pods; nothing else reaches the databases."
  type        = string
}

variable "postgres" {
  description = "Aurora PostgreSQL: its version, capacity in ACUs, instances (one writer, the rest readers), and its safety."
  type = object({
    version             = optional(string, "17.5")
    capacity            = object({ min = number, max = number })
    instances           = optional(number, 2)
    backup_days         = optional(number, 35)
    deletion_protection = optional(bool, true)
  })

  validation {
    condition     = var.postgres.capacity.min >= 0.5 && var.postgres.capacity.max <= 256 && var.postgres.capacity.min <= var.postgres.capacity.max
    error_message = "postgres.capacity: 0.5 <= min <= max <= 256."
  }
  validation {
    condition     = var.postgres.instances >= 1 && var.postgres.instances <= 15
    error_message = "postgres.instances: 1 to 15."
  }
  validation {
    condition     = var.postgres.backup_days >= 7 && var.postgres.backup_days <= 35
    error_message = "postgres.backup_days: 7 to 35; the ledger must be restorable to any second of at least a week."
  }
}

variable "valkeys" {
  description = "The two Valkeys, `limits` (keys, limits and the usage stream) and `ray` (Ray's GCS). `auth_secret` names the Secrets Manager secret whose whole text is the token."
  type = map(object({
    auth_secret = string
    node_type   = string
    replicas    = optional(number, 1)
  }))

  validation {
    condition     = toset(keys(var.valkeys)) == toset(["limits", "ray"])
    error_message = "valkeys: exactly `limits` and `ray`; a full GCS must not stop admission, nor the other way round."
  }
  validation {
    condition     = alltrue([for valkey in var.valkeys : valkey.replicas >= 0 && valkey.replicas <= 5])
    error_message = "valkeys: 0 to 5 replicas."
  }
  validation {
    condition     = length(distinct([for valkey in var.valkeys : valkey.auth_secret])) == length(var.valkeys)
    error_message = "valkeys: each has a secret of its own; Ray's pods must not be able to read the wallets' Valkey."
  }
}
