// Opened from a folder, a page may not read its neighbours to quote from them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A figure is drawn before the column at the right exists; now the page is complete.
addEventListener("load", () => {
  document.querySelectorAll(".js-plotly-plot").forEach(figure => Plotly.Plots.resize(figure));
});
