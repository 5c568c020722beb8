variable "name" {
  description = "Prefix of log groups and alarms."
  type        = string
}

variable "retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365], var.retention_days)
    error_message = "retention_days: one of 7, 14, 30, 60, 90, 180, 365 (what CloudWatch offers)."
  }
}

variable "emails" {
  description = "Who is told of an alarm; each address must confirm once."
  type        = set(string)

  validation {
    condition     = length(var.emails) >= 1
    error_message = "emails: at least one; an alarm that tells nobody guards nothing."
  }
}

variable "database_cluster_id" {
  description = "Aurora cluster to watch."
  type        = string
}

variable "valkey_members" {
  description = "Member clusters of each Valkey to watch, by its use."
  type        = map(set(string))
}
