"""Running models: store, memory plan, plan, runner, state. Imports core up to devices."""
