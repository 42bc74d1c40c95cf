/* All runs: filters that act on points and rows, headings that sort, and a line that names the point in question. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector(".isonb-runs-table");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const points = [...document.querySelectorAll(".isonb-point")];
  const charts = new Map([...document.querySelectorAll(".isonb-plot")].map((plot) => [plot,
    points.filter((point) => plot.contains(point)).sort((a, b) => parseFloat(a.style.left) - parseFloat(b.style.left))]));
  const pointOf = new Map(points.map((point) => [point.dataset.row, point]));
  const columns = new Map([...table.tHead.rows[0].cells].map((head) => [head.dataset.name, head.cellIndex]));
  const unseen = ["run", "images"]; // what an address may ask for, and no field
  const valueOf = (row, name) => {
    if (unseen.includes(name)) return row.dataset[name];
    const cell = row.cells[columns.get(name)];
    return cell.dataset.value ?? cell.textContent;
  };
  const textOf = (row, name) => {
    const cell = row.cells[columns.get(name)];
    return (cell.querySelector("a") ?? cell).firstChild?.data ?? "";
  };

  // Headings are buttons, which sortable.min.js hears
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
  }

  // The filters, from what the table holds
  const chosen = new URLSearchParams(location.search);
  const bar = document.querySelector(".isonb-filters");
  const count = document.querySelector(".isonb-count");
  const selects = new Map();
  for (const name of bar.dataset.names.split(" ")) {
    const shown = new Map(rows.map((row) => [valueOf(row, name), textOf(row, name)]));
    if (shown.size < 2 && !chosen.has(name)) continue;
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.append(table.tHead.rows[0].cells[columns.get(name)].textContent, select);
    select.add(new Option("all", "*"));
    const inOrder = [...shown].sort(([, a], [, b]) => a.localeCompare(b, "en", { numeric: true }));
    for (const [value, text] of inOrder) select.add(new Option(text || "nothing", value));
    selects.set(name, select);
    bar.append(label);
    select.addEventListener("change", () => {
      chosen.delete(name);
      if (select.value !== "*") chosen.set(name, select.value);
      apply();
    });
  }
  const reset = document.createElement("button");
  reset.textContent = "Show all";
  reset.addEventListener("click", () => {
    [...chosen.keys()].forEach((name) => chosen.delete(name));
    apply();
  });
  bar.append(reset);
  bar.hidden = false;

  function apply() {
    const names = [...new Set(chosen.keys())].filter((name) => unseen.includes(name) || columns.has(name));
    let seen = 0;
    for (const row of rows) {
      row.hidden = !names.every((name) => chosen.getAll(name).includes(valueOf(row, name)));
      pointOf.get(row.id).hidden = row.hidden;
      seen += !row.hidden;
    }
    for (const [name, select] of selects) {
      const values = chosen.getAll(name);
      select.querySelector("[data-several]")?.remove();
      if (values.length > 1 || (values.length && ![...select.options].some(({ value }) => value === values[0]))) {
        const several = new Option(values.join(" or "), values.join());
        several.dataset.several = "";
        select.add(several);
      }
      select.value = values.length ? values.join() : "*";
    }
    count.textContent = `${seen} of ${rows.length} runs`;
    reset.hidden = !names.length;
    for (const chart of document.querySelectorAll(".isonb-chart")) {
      chart.hidden = !points.some((point) => !point.hidden && chart.contains(point));
    }
    for (const folded of document.querySelectorAll(".isonb-chart + details")) {
      folded.hidden = ![...folded.querySelectorAll(".isonb-chart")].some((chart) => !chart.hidden);
      folded.open ||= folded.previousElementSibling.hidden;
    }
    const query = String(chosen);
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    for (const inside of charts.values()) {
      const open = inside.filter((point) => !point.hidden);
      stop(inside, open.find((point) => point.getAttribute("tabindex") === "0") ?? open[0]);
    }
  }

  // Each chart is one stop for the Tab key; arrows lead from point to point, by loss
  function stop(inside, point) {
    for (const other of inside) other.tabIndex = other === point ? 0 : -1;
  }
  const readout = document.querySelector(".isonb-readout");
  function name(point) {
    document.querySelector(".isonb-point.isonb-current")?.classList.remove("isonb-current");
    point.classList.add("isonb-current");
    const link = document.createElement("a");
    link.href = point.getAttribute("href");
    link.textContent = point.getAttribute("aria-label");
    readout.replaceChildren(link);
  }
  for (const point of points) {
    point.setAttribute("aria-label", point.title);
    point.removeAttribute("title");
  }
  for (const [plot, inside] of charts) {
    for (const point of inside) point.addEventListener("focus", () => { stop(inside, point); name(point); });
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const open = inside.filter((point) => !point.hidden);
      open[(open.indexOf(document.activeElement) + step + open.length) % open.length]?.focus();
    });
    const nearest = ({ clientX, clientY }) => {
      const reach = inside.filter((point) => !point.hidden).map((point) => {
        const { x, y, width, height } = point.getBoundingClientRect();
        return [Math.hypot(x + width / 2 - clientX, y + height / 2 - clientY), point];
      });
      const [distance, point] = reach.reduce((a, b) => (b[0] < a[0] ? b : a), [Infinity]);
      return distance < 24 ? point : undefined;
    };
    let isFirstTap = false; // of a finger, which names the point; focus names it, too, before the click
    plot.addEventListener("pointermove", (event) => {
      const point = event.pointerType === "mouse" && nearest(event);
      if (point) name(point);
    });
    plot.addEventListener("pointerdown", (event) => {
      isFirstTap = event.pointerType !== "mouse" && !nearest(event)?.classList.contains("isonb-current");
    });
    plot.addEventListener("click", (event) => {
      if (!event.detail || event.ctrlKey || event.metaKey || event.shiftKey) return; // by key, or into a new tab
      const point = nearest(event);
      if (!point) return;
      event.preventDefault();
      if (isFirstTap) name(point);
      else location.href = point.href;
    });
  }
  apply();
});
