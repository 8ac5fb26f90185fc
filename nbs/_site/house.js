// Opened from a folder, a page may not read its neighbours to quote from them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// What is wider than its place can be moved with the arrow keys.
const WIDE = "pre, .table-wrapper, .math-wrapper, .output, .figure-card [role=img], .figure-card";
function makeWideReachable() {
  document.querySelectorAll(WIDE).forEach(box => {
    const scrolls = getComputedStyle(box).overflowX !== "visible" && box.scrollWidth > box.clientWidth;
    if (scrolls) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
}
addEventListener("resize", makeWideReachable);

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
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "Chapters");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  makeWideReachable();
  document.querySelectorAll("details").forEach(d => d.addEventListener("toggle", makeWideReachable));
});
