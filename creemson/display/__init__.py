"""What terminals and notebooks show: tables, profiles, issues and progress bars."""
