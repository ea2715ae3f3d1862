"use strict";
(() => {
  const tip = document.getElementById("tip");

  function make(name, text, kind) {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (kind) e.className = kind;
    return e;
  }

  function show(x, y, ...content) {
    tip.replaceChildren(...content);
    tip.classList.add("on");
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth - 6 ? x - 16 - box.width : x + 16;
    const top = y + 16 + box.height > innerHeight - 6 ? y - 16 - box.height : y + 16;
    tip.style.transform = `translate(${Math.max(6, left)}px, ${Math.max(6, top)}px)`;
  }
  const hide = () => tip.classList.remove("on");

  // The pointer in the units of an SVG.
  function place(svg, event) {
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    return [(event.clientX - box.left) * view.width / box.width, (event.clientY - box.top) * view.height / box.height];
  }

  function lines(svg) {
    const data = JSON.parse(svg.dataset.lines), cursor = svg.querySelector(".cursor"), height = svg.viewBox.baseVal.height;
    const ns = "http://www.w3.org/2000/svg";
    svg.addEventListener("pointermove", (event) => {
      const [x] = place(svg, event);
      let best = null;
      for (const line of data.lines) {
        for (const point of line.points) if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point;
      }
      if (!best) return;
      const rule = document.createElementNS(ns, "line");
      for (const [k, v] of [["x1", best[0]], ["x2", best[0]], ["y1", 12], ["y2", height - 34]]) rule.setAttribute(k, v);
      const marks = [rule], rows = [make("b", `${data.x} ${best[2]}`)];
      for (const line of data.lines) {
        const point = line.points.find((p) => p[2] === best[2]);
        if (!point) continue;
        const dot = document.createElementNS(ns, "circle");
        for (const [k, v] of [["cx", point[0]], ["cy", point[1]], ["r", 5], ["class", `c${line.colour}`]]) dot.setAttribute(k, v);
        marks.push(dot);
        const row = make("div");
        row.append(make("i", undefined, `key c${line.colour}`), make("span", line.name), make("b", point[3]));
        rows.push(row);
      }
      cursor.replaceChildren(...marks);
      show(event.clientX, event.clientY, ...rows);
    });
    svg.addEventListener("pointerleave", () => { cursor.replaceChildren(); hide(); });
  }

  function scatter(svg) {
    const texts = JSON.parse(svg.dataset.texts), ring = svg.querySelector(".ring"), dots = [...svg.querySelectorAll(".point")];
    const style = getComputedStyle(document.documentElement), columns = +style.getPropertyValue("--columns"), rows = +style.getPropertyValue("--rows");
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = place(svg, event);
      let best = -1, least = 900;
      dots.forEach((dot, i) => {
        if (dot.classList.contains("faded")) return;
        const d = (dot.cx.baseVal.value - x) ** 2 + (dot.cy.baseVal.value - y) ** 2;
        if (d < least) [best, least] = [i, d];
      });
      if (best < 0) { ring.setAttribute("cx", -99); hide(); return; }
      ring.setAttribute("cx", dots[best].cx.baseVal.value);
      ring.setAttribute("cy", dots[best].cy.baseVal.value);
      const thumb = make("span", undefined, "thumb"), column = best % columns, row = Math.floor(best / columns);
      thumb.style.backgroundPosition = `${columns > 1 ? column * 100 / (columns - 1) : 0}% ${rows > 1 ? row * 100 / (rows - 1) : 0}%`;
      show(event.clientX, event.clientY, thumb, make("span", texts[best]));
    });
    svg.addEventListener("pointerleave", () => { ring.setAttribute("cx", -99); hide(); });
  }

  function press(buttons, chosen) {
    for (const b of buttons) b.setAttribute("aria-pressed", String(b === chosen));
  }

  function start() {
    document.querySelectorAll("svg[data-lines]").forEach(lines);
    document.querySelectorAll("svg.scatter").forEach(scatter);
    const tabs = [...document.querySelectorAll("[data-tab]")];
    for (const tab of tabs) tab.addEventListener("click", () => {
      press(tabs, tab);
      for (const panel of document.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== tab.dataset.tab;
    });
    const groups = [...document.querySelectorAll(".groups button")];
    for (const button of groups) button.addEventListener("click", () => {
      const only = button.getAttribute("aria-pressed") === "true" ? null : button;
      press(groups, only);
      for (const dot of document.querySelectorAll(".point")) dot.classList.toggle("faded", only !== null && dot.dataset.g !== only.dataset.g);
    });
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const seen = new IntersectionObserver((entries) => {
      for (const e of entries) if (e.isIntersecting) links.forEach((a, id) => a.classList.toggle("here", id === e.target.id));
    }, { rootMargin: "-80px 0px -70% 0px" });
    document.querySelectorAll("main > section").forEach((s) => seen.observe(s));
  }

  document.addEventListener("pointerover", (event) => {
    const e = event.target.closest("[data-tip]");
    if (e) show(event.clientX, event.clientY, make("span", e.dataset.tip));
    else if (!event.target.closest("svg[data-lines], svg.scatter")) hide();
  });
  document.addEventListener("scroll", hide, { passive: true });
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });

  // The live view: asks whether the run has changed, and takes the new content in place of the old.
  async function follow() {
    const state = document.getElementById("state");
    let stamp = null;
    for (;;) {
      try {
        const told = await (await fetch("state", { cache: "no-store" })).json();
        state.textContent = told.text;
        state.parentElement.classList.toggle("still", !told.training);
        if (stamp !== null && told.stamp !== stamp) {
          const next = new DOMParser().parseFromString(await (await fetch(".", { cache: "no-store" })).text(), "text/html");
          for (const id of ["content", "sheet"]) document.getElementById(id).replaceWith(next.getElementById(id));
          document.querySelector("nav").replaceWith(next.querySelector("nav"));
          document.querySelector("header p").replaceWith(next.querySelector("header p"));
          hide();
          start();
        }
        stamp = told.stamp;
      } catch {
        state.textContent = "the live view has ended; this is its last page";
        state.parentElement.classList.add("still");
      }
      await new Promise((resume) => setTimeout(resume, 2000));
    }
  }

  start();
  if (document.documentElement.dataset.live) follow();
})();
