// Opened from a folder, a page may not read its neighbours to quote from them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A figure is drawn before the column at the right exists; now the page is complete.
addEventListener("load", () => {
  document.querySelectorAll(".js-plotly-plot").forEach(figure => {
    const narrow = (figure.layout.meta || {}).narrow;
    if (narrow && figure.clientWidth < 420) {
      if (narrow.width) figure.style.width = `${narrow.width}px`;
      if (narrow.height) figure.parentElement.style.height = figure.style.height = `${narrow.height}px`;
      Plotly.relayout(figure, narrow);
    }
    Plotly.Plots.resize(figure);
  });
});
