mock_provider "aws" {}

variables {
  name        = "headrace"
  monthly_usd = 20000
  emails      = ["finance@example.com"]
  tag         = { key = "environment", value = "production" }
}

run "the_forecast_and_the_spending_are_told" {
  assert {
    condition     = length(aws_budgets_budget.month.notification) == 3 && contains([for n in aws_budgets_budget.month.notification : n.notification_type], "FORECASTED")
    error_message = "A notice is missing."
  }
  assert {
    condition     = one(one(aws_budgets_budget.month.cost_filter).values) == "user:environment$production"
    error_message = "The budget counts something else than its tag."
  }
}

run "without_a_tag_the_account_is_counted" {
  variables {
    tag = null
  }
  assert {
    condition     = length(aws_budgets_budget.month.cost_filter) == 0
    error_message = "A filter is left."
  }
}

run "a_budget_that_tells_nobody_is_refused" {
  command = plan
  variables {
    emails = []
  }
  expect_failures = [var.emails]
}

run "parts_of_a_dollar_are_refused" {
  command = plan
  variables {
    monthly_usd = 0.5
  }
  expect_failures = [var.monthly_usd]
}
