variable "name" {
  description = "Name of the budget."
  type        = string
}

variable "monthly_usd" {
  description = "What a month may cost, in whole US dollars. GPUs cost this much by the hour: choose it, there is no default."
  type        = number

  validation {
    condition     = var.monthly_usd >= 1 && floor(var.monthly_usd) == var.monthly_usd
    error_message = "monthly_usd: a whole number of dollars, at least 1."
  }
}

variable "emails" {
  description = "Who is told, one to ten addresses."
  type        = list(string)

  validation {
    condition     = length(var.emails) >= 1 && length(var.emails) <= 10 && alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "emails: one to ten addresses; a budget that tells nobody guards nothing."
  }
}

variable "tag" {
  description = "Cost-allocation tag that the budget counts; null counts the whole account. The tag must be activated in billing."
  type        = object({ key = string, value = string })
  default     = null
}
