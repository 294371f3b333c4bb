"use strict";
// Tables that sort, values under the pointer, code to copy; of a page that is watched, its next state.
// Without any of it the page says the same.
(() => {
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (className) element.className = className;
    return element;
  };

  // Tables.
  const order = (row, index) => {
    const cell = row.cells[index];
    const number = cell.dataset.o === undefined ? NaN : Number(cell.dataset.o);
    return { number, text: cell.textContent.trim().toLowerCase(), missing: cell.dataset.o === "" };
  };
  const compare = (one, other) => {
    if (!Number.isNaN(one.number) && !Number.isNaN(other.number)) return one.number - other.number;
    return one.text.localeCompare(other.text, "en", { numeric: true });
  };
  const sort = (table, index, direction) => {
    const rows = [...table.tBodies[0].rows];
    const sign = direction === "descending" ? -1 : 1;
    const keyed = rows.map((row) => ({ row, key: order(row, index) }));
    keyed.sort((one, other) => {
      if (one.key.missing || other.key.missing) return one.key.missing - other.key.missing;
      return sign * compare(one.key, other.key);
    });
    table.tBodies[0].append(...keyed.map(({ row }) => row));
    [...table.tHead.rows[0].cells].forEach((cell, at) => {
      if (at === index) cell.setAttribute("aria-sort", direction);
      else cell.removeAttribute("aria-sort");
    });
  };
  const makeSortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      const button = make("button", cell.textContent);
      button.type = "button";
      button.addEventListener("click", () => {
        const descending = cell.getAttribute("aria-sort") === "ascending";
        sort(table, index, descending ? "descending" : "ascending");
      });
      cell.replaceChildren(button);
    });
  };

  // Figures.
  const place = (panel, point) => {
    const y = panel.y_words[point[3]];
    const lines = [`${panel.x_name || "x"}: ${point[2]}`, y === undefined ? `${panel.y_name || "y"}: ${point[3]}` : y];
    if (point.length > 5) lines.push(`shaded: ${point[4]} to ${point[5]}`);
    return lines;
  };
  const makeReadable = (figure) => {
    const svg = figure.querySelector("svg");
    const box = figure.querySelector(".box");
    const panels = JSON.parse(figure.dataset.points);
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const tip = make("div", undefined, "tip");
    tip.hidden = true;
    tip.setAttribute("role", "status");
    dot.setAttribute("r", "4");
    dot.setAttribute("fill", "none");
    dot.setAttribute("stroke", "currentColor");
    dot.setAttribute("stroke-width", "1.5");
    dot.style.display = "none";
    svg.append(dot);
    box.append(tip);
    let at = [0, 0, 0];
    const hide = () => { tip.hidden = true; dot.style.display = "none"; };
    const show = (where) => {
      at = where;
      const panel = panels[at[0]], series = panel.series[at[1]], point = series.points[at[2]];
      const name = make("b"), mark = make("i");
      mark.style.background = `var(--c${series.color.slice(1)}, currentColor)`;
      name.append(mark, [panel.title, series.name].filter(Boolean).join(": ") || "value");
      tip.replaceChildren(name, ...place(panel, point).map((line) => make("span", line)));
      tip.hidden = false;
      dot.style.display = "";
      dot.setAttribute("cx", point[0]);
      dot.setAttribute("cy", point[1]);
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      const x = point[0] * scale, y = point[1] * scale, wide = tip.offsetWidth, high = tip.offsetHeight;
      const first = box.scrollLeft, last = first + box.clientWidth, low = box.clientHeight - high;
      const within = (value, least, most) => Math.max(least, Math.min(value, most));
      // Beside the point, or where there is no room above or below it.
      if (x + 14 + wide <= last) [tip.style.left, tip.style.top] = [`${x + 14}px`, `${within(y - high / 2, 0, low)}px`];
      else if (x - 14 - wide >= first) [tip.style.left, tip.style.top] = [`${x - 14 - wide}px`, `${within(y - high / 2, 0, low)}px`];
      else [tip.style.left, tip.style.top] = [`${within(x - wide / 2, first, last - wide)}px`, `${y - high - 14 >= 0 ? y - high - 14 : y + 14}px`];
    };
    const nearest = (event) => {
      const outer = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
      const x = (event.clientX - outer.left) * view.width / outer.width;
      const y = (event.clientY - outer.top) * view.height / outer.height;
      let best = null, least = Infinity;
      panels.forEach((panel, p) => {
        const [left, top, right, bottom] = panel.box;
        if (x < left - 8 || x > right + 8 || y < top - 8 || y > bottom + 8) return;
        panel.series.forEach((series, s) => series.points.forEach((point, i) => {
          const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
          if (distance < least) { least = distance; best = [p, s, i]; }
        }));
      });
      return best;
    };
    const follow = (event) => { const found = nearest(event); if (found) show(found); else hide(); };
    svg.addEventListener("pointermove", follow);
    svg.addEventListener("pointerdown", follow);
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    svg.addEventListener("blur", hide);
    const lines = panels.flatMap((panel, p) => panel.series.map((_, s) => [p, s]));
    svg.addEventListener("keydown", (event) => {
      const points = (line) => panels[line[0]].series[line[1]].points;
      let line = Math.max(0, lines.findIndex(([p, s]) => p === at[0] && s === at[1])), i = at[2];
      const last = () => points(lines[line]).length - 1;
      if (!lines.length) return;
      if (event.key === "Escape") { hide(); return; }
      if (event.key === "ArrowRight") i = Math.min(last(), tip.hidden ? i : i + 1);
      else if (event.key === "ArrowLeft") i = Math.max(0, i - 1);
      else if (event.key === "Home") i = 0;
      else if (event.key === "End") i = last();
      else if (event.key === "ArrowDown") line = (line + 1) % lines.length;
      else if (event.key === "ArrowUp") line = (line + lines.length - 1) % lines.length;
      else return;
      event.preventDefault();
      show([...lines[line], Math.min(i, last())]);
    });
    const details = figure.querySelector("details.values");
    if (details) {
      const fill = () => { if (details.open && !details.querySelector("table")) details.lastElementChild.append(values(panels)); };
      details.addEventListener("toggle", fill);
      fill();
    }
  };
  const values = (panels) => {
    const table = make("table"), head = make("tr"), body = make("tbody");
    const titles = [...(panels.length > 1 ? ["panel"] : []), "line", panels[0].x_name || "x", panels[0].y_name || "y", "shaded from", "to"];
    const numeric = titles.length - 4;
    titles.forEach((title, at) => { const cell = make("th", title, at >= numeric ? "n" : ""); cell.scope = "col"; head.append(cell); });
    for (const panel of panels) for (const series of panel.series) for (const point of series.points) {
      const row = make("tr");
      const named = panel.y_words[point[3]];
      [...(panels.length > 1 ? [panel.title] : []), series.name].forEach((text) => row.append(make("td", text)));
      [point[2], named === undefined ? point[3] : named, point[4] ?? "", point[5] ?? ""].forEach((value) => {
        const cell = make("td", String(value), "n");
        cell.dataset.o = typeof value === "number" ? String(value) : "";
        row.append(cell);
      });
      body.append(row);
    }
    const top = make("thead");
    top.append(head);
    table.append(top, body);
    makeSortable(table);
    return table;
  };

  // Code.
  const makeCopyable = (box) => {
    if (!navigator.clipboard) return;
    const button = make("button", "copy");
    button.type = "button";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(box.querySelector("pre").textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    box.append(button);
  };

  const enliven = () => {
    all("main table").forEach(makeSortable);
    all("main figure[data-points]").forEach(makeReadable);
    all("main .code").forEach(makeCopyable);
  };
  enliven();
  window.addEventListener("beforeprint", () => all("details:not(.values)").forEach((details) => { details.open = true; }));

  // A page that is watched.
  const seconds = Number(document.body.dataset.every);
  if (!seconds) return;
  const live = document.getElementById("live");
  const say = (text, tone) => { live.textContent = text; live.className = tone; };
  const isBusy = () => document.querySelector("main").dataset.ended === undefined;
  const tell = () => {
    const time = new Date().toLocaleTimeString();
    if (isBusy()) say(`live, as of ${time}`, "busy");
    else say("the run has ended; this is its last state", "");
  };
  const kept = () => ({
    open: new Map(all("main details[data-key]").map((one) => [one.dataset.key, one.open])),
    sorted: new Map(all("main table[data-key]").map((table) => {
      const cells = [...table.tHead.rows[0].cells];
      const index = cells.findIndex((cell) => cell.hasAttribute("aria-sort"));
      return [table.dataset.key, index < 0 ? null : [index, cells[index].getAttribute("aria-sort")]];
    })),
    focused: document.activeElement && document.activeElement.closest("[data-key]")?.dataset.key,
    scrolled: all("main .box").map((box) => box.scrollLeft),
  });
  const bring = (state) => {
    all("main details[data-key]").forEach((one) => { if (state.open.has(one.dataset.key)) one.open = state.open.get(one.dataset.key); });
    all("main table[data-key]").forEach((table) => {
      const how = state.sorted.get(table.dataset.key);
      if (how && how[0] < table.tHead.rows[0].cells.length) sort(table, ...how);
    });
    all("main .box").forEach((box, at) => { box.scrollLeft = state.scrolled[at] || 0; });
  };
  let tag = document.body.dataset.tag;
  const look = async () => {
    let wait = seconds;
    try {
      if (!document.hidden && !document.querySelector(".tip:not([hidden])")) {
        const answer = await fetch(location.pathname, { headers: { "If-None-Match": tag }, cache: "no-store" });
        if (answer.status !== 200 && answer.status !== 304) throw new Error(String(answer.status));
        if (answer.status === 200) {
          tag = answer.headers.get("ETag");
          const next = new DOMParser().parseFromString(await answer.text(), "text/html");
          const state = kept(), y = window.scrollY;
          document.title = next.title;
          document.querySelector("main").replaceWith(document.importNode(next.querySelector("main"), true));
          enliven();
          bring(state);
          window.scrollTo(0, y);
        }
        tell();
      }
    } catch {
      say("the server is gone: this is the last state that it told of", "bad");
      wait = 2 * seconds;
    }
    setTimeout(look, 1000 * wait);
  };
  tell();
  setTimeout(look, 1000 * seconds);
})();
