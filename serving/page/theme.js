// Runs before the first paint, so that a chosen theme does not flash; without a choice the system decides.
try {
  const theme = localStorage.getItem("embargo-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage can be forbidden; then the system decides.
}
