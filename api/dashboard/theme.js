// The chosen theme, set before the page is first drawn so that it doesn't flash in the other one. A plain script for
// that reason: modules run after the page has been read.
(() => {
  try {
    const theme = localStorage.getItem('gristmill.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Without storage the system's theme holds.
  }
})();
