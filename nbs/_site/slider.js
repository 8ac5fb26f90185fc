// A slider chooses the frame that its figure shows.
const AT_ONCE = { mode: "immediate", frame: { duration: 0, redraw: true }, transition: { duration: 0 } };
document.addEventListener("input", ({ target }) => {
  if (!target.matches(".figure-slider input")) return;
  const [labels, frames] = JSON.parse(target.dataset.steps), at = Number(target.value);
  target.nextElementSibling.textContent = labels[at];
  target.setAttribute("aria-valuetext", labels[at]);
  Plotly.animate(target.closest(".figure-card").querySelector(".js-plotly-plot"), [frames[at]], AT_ONCE);
});
