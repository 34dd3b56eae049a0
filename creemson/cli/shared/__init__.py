"""What several commands share: their options and arguments, how they run, and how they show results."""
