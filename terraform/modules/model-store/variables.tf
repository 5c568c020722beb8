variable "bucket" {
  description = "Name of the bucket; unique in all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: 3 to 63 lower-case letters, digits and dashes; no dots, which break TLS."
  }
}

variable "old_version_days" {
  description = "Days until an overwritten or deleted weight file is gone for good."
  type        = number
  default     = 30

  validation {
    condition     = var.old_version_days >= 1 && var.old_version_days <= 365
    error_message = "old_version_days: 1 to 365."
  }
}
