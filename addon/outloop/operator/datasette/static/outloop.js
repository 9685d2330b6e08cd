// Everything that Datasette and its charts would have said in the page itself, which forbids it.
window.DATASETTE_ALLOW_FACET = true;

// `renderChart` is datasette-dashboards'.
for (const place of document.querySelectorAll("[data-chart]")) {
  const slug = place.id.replace(/^chart-/, "");
  const { chart, query, base, tall } = place.dataset;
  renderChart(slug, JSON.parse(chart), query, base, Boolean(tall)).catch(() => {
    place.textContent = "This chart could not be drawn; its numbers are below.";
  });
}
