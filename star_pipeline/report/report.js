"use strict";
// The page's own script: draws the plots as they come into view, and runs the browser of samples. Texts enter the page as text only.
(() => {
  const byId = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // ---- what was linked to stays in place while the page still grows: by plots above it, and by samples below it, without which it cannot reach
  // the top; until the reader moves the page

  let aim = null;
  const aimAt = (hash) => { aim = hash.length > 1 ? byId(hash.slice(1)) : null; };
  const keepInPlace = () => { if (aim) aim.scrollIntoView(); };
  aimAt(location.hash);
  addEventListener("click", (event) => { const link = event.target.closest?.("a[href^='#']"); if (link) aimAt(link.hash); });
  for (const moved of ["wheel", "touchmove", "pointerdown", "keydown"]) addEventListener(moved, () => { aim = null; }, { passive: true });

  // ---- plots

  const specs = JSON.parse(byId("specs").textContent);
  const drawn = new Map();

  function theme(width) {
    const ink = dark.matches ? "#e6edf3" : "#1f2328", soft = dark.matches ? "#a4aeb9" : "#57606a", grid = dark.matches ? "#2a313a" : "#e4e8ec";
    const ramp = dark.matches ? ["#1c2a3a", "#2f6db3", "#cfe5ff"] : ["#e3edf7", "#6ba3d6", "#08306b"];
    const font = "system-ui, sans-serif";
    return {
      background: "transparent", font,
      view: { stroke: null },
      axis: { labelColor: ink, titleColor: soft, gridColor: grid, domainColor: soft, tickColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: Math.max(90, width * 0.36), labelOverlap: "greedy", labelSeparation: 6 },
      axisQuantitative: { tickCount: Math.max(3, Math.floor(width / 90)) },
      legend: { orient: "bottom", direction: "horizontal", columns: Math.max(2, Math.floor(width / 150)), labelColor: ink, titleColor: soft, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 130, symbolLimit: 40 },
      mark: { color: dark.matches ? "#79aee6" : "#4c78a8" },
      range: { ramp, heatmap: ramp },
      rule: { color: soft }, text: { color: ink, fontSize: 12 }, line: { strokeWidth: 2 }, point: { size: 36 },
    };
  }

  function draw(place) {
    const name = place.dataset.figure;
    if (drawn.has(name)) return Promise.resolve();
    drawn.set(name, null);
    return vegaEmbed(place.firstElementChild, specs[name], { renderer: "svg", actions: false, ast: true, logLevel: 1, config: theme(place.clientWidth) }).then(
      (made) => { drawn.set(name, made); place.dataset.drawn = performance.now().toFixed(); keepInPlace(); },
      (error) => { place.textContent = `This plot could not be drawn (${error.message}); its numbers are in the table.`; },
    );
  }

  const plots = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  plots.forEach((place) => seen.observe(place));
  addEventListener("beforeprint", () => plots.forEach(draw));
  // those out of sight one by one when there is time: what is linked to then stays where it is, and paper has them all
  const soon = window.requestIdleCallback || ((call) => setTimeout(call, 50));
  const drawNext = (left) => { if (left.length) soon(() => draw(left[0]).then(() => drawNext(left.slice(1)))); };
  drawNext(plots);
  dark.addEventListener("change", () => {
    for (const place of plots) {
      const made = drawn.get(place.dataset.figure);
      if (made) { made.finalize(); drawn.delete(place.dataset.figure); draw(place); }
    }
  });

  // ---- samples

  const list = byId("list");
  if (!list) return;
  const article = byId("seed"), count = byId("count"), previous = byId("previous"), next = byId("next");
  const filters = { pair: byId("filter-pair"), domain: byId("filter-domain"), verdict: byId("filter-verdict"), selection: byId("filter-selection"), source: byId("filter-source") };
  const search = byId("filter-text"), sort = byId("sort"), form = byId("filters");
  let seeds = [], shown = [], current = null;

  // C0 and C1 controls but tab and line ends would be invisible, or worse
  const visible = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, (c) => (c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : "\ufffd"));

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== null) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (typeof child === "string" ? visible(child) : child)));
    return made;
  }
  const isolated = (text) => element("bdi", {}, text);
  const number = (value) => (value === undefined ? "–" : value.toFixed(3));

  async function unpack() {
    const bytes = Uint8Array.from(atob(byId("packed").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function prepare(seed) {
    const picked = seed.candidates.find((c) => c.selected);
    seed.picked = picked;
    seed.reference = seed.candidates.find((c) => c.slot === 0);
    seed.state = seed.left_out ? `left out: ${seed.left_out}` : picked ? picked.selection : "not finished";
    seed.verdicts = new Set(seed.candidates.map((c) => c.verdict).filter(Boolean));
    if (seed.candidates.some((c) => c.status === "failed")) seed.verdicts.add("failed to generate");
    if (seed.candidates.some((c) => c.flipped)) seed.verdicts.add("reversed");
    seed.pi = picked && picked.pi !== undefined ? picked.pi : null;
    seed.gap = picked && picked.gap !== undefined ? picked.gap : null;
    seed.texts = [seed.seed_id, seed.source, seed.system, seed.instruction, seed.response, ...(seed.history || []).map((t) => t.content),
      ...seed.candidates.flatMap((c) => [c.pair_id, c.instruction, c.response, c.error, c.reply_first, c.reply_swapped])]
      .filter(Boolean).join("\n").toLowerCase();
  }

  const valuesOf = {
    pair: (seed) => (seed.picked ? [seed.picked.pair_id] : []),
    domain: (seed) => (seed.domain_name ? [seed.domain_name] : []),
    verdict: (seed) => [...seed.verdicts],
    selection: (seed) => [seed.state, ...(seed.near_duplicate_of && seed.near_duplicate_of !== seed.seed_id ? ["near-duplicate"] : [])],
    source: (seed) => [seed.source],
  };
  const last = (value, otherwise) => (value === null ? otherwise : value);
  const orders = {
    "order of the files": (a, b) => a.place - b.place,
    "π, highest first": (a, b) => last(b.pi, -1) - last(a.pi, -1) || a.place - b.place,
    "π, lowest first": (a, b) => last(a.pi, 2) - last(b.pi, 2) || a.place - b.place,
    "gap, largest first": (a, b) => last(b.gap, -1e9) - last(a.gap, -1e9) || a.place - b.place,
    "longest first": (a, b) => b.texts.length - a.texts.length,
  };

  function fillFilters() {
    for (const [name, select] of Object.entries(filters)) {
      const counted = new Map();
      for (const seed of seeds) for (const value of valuesOf[name](seed)) counted.set(value, (counted.get(value) || 0) + 1);
      const values = [...counted].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      select.append(element("option", { value: "" }, "any"), ...values.map(([value, times]) => element("option", { value }, `${value} (${times})`)));
      if (!values.length) select.disabled = true;
    }
    sort.append(...Object.keys(orders).map((name) => element("option", {}, name)));
  }

  function refresh() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = seeds.filter((seed) => words.every((word) => seed.texts.includes(word))
      && Object.entries(filters).every(([name, select]) => !select.value || valuesOf[name](seed).includes(select.value)));
    shown.sort(orders[sort.value]);
    count.textContent = `${shown.length} of ${seeds.length} samples`;
    article.hidden = !shown.length;
    list.replaceChildren(...shown.map((seed) => {
      const link = element("a", { href: `#seed=${encodeURIComponent(seed.seed_id)}` },
        element("span", { class: "what", dir: "auto" }, seed.instruction.slice(0, 160)),
        element("span", { class: "how" }, isolated(seed.picked ? seed.picked.pair_id : seed.state), element("span", {}, seed.pi === null ? "no π" : `π ${number(seed.pi)}`)));
      link.dataset.seed = seed.seed_id;
      return element("li", {}, link);
    }));
    mark();
    if (!current && shown.length) show(shown[0]);
  }

  function mark() {
    const place = shown.indexOf(current);
    previous.disabled = place <= 0;
    next.disabled = place >= shown.length - 1;
    for (const link of list.querySelectorAll("a")) {
      if (current && link.dataset.seed === current.seed_id) {
        link.setAttribute("aria-current", "true");
        const box = link.closest(".list");
        if (link.offsetTop < box.scrollTop || link.offsetTop + link.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = link.offsetTop - box.clientHeight / 3;
      } else link.removeAttribute("aria-current");
    }
  }

  const part = (name, text) => [element("p", { class: "part" }, name), element("div", { class: "text", dir: "auto", "data-of": name }, text)];

  function answers(seed, one) {
    const asked = one.instruction === undefined ? [element("p", { class: "part" }, one.status === "failed" ? "" : "Instruction: the seed's, unchanged")] : part("Instruction, rewritten", one.instruction);
    return one.response === undefined ? asked : [...asked, ...part("Response", one.response)];
  }

  const kinds = { better: "good", worse: "bad", inconsistent: "mild", unparsed: "bad", failed: "bad" };

  function judged(one) {
    if (!one.verdict) return null;
    if (one.reply_first === undefined && one.reply_swapped === undefined) return one.judge_error ? element("p", { class: "detail" }, `Judge: ${one.judge_error}`) : null;
    return element("details", { class: "words" }, element("summary", {}, "The judge's words"),
      ...part(`Shown first: ${one.verdict_first || "no verdict"}`, one.reply_first || "no reply"),
      ...part(`Shown second: ${one.verdict_swapped || "no verdict"}`, one.reply_swapped || "no reply"));
  }

  function card(seed, one, title) {
    const badges = element("ul", { class: "badges" },
      one.selected ? element("li", { class: "good" }, one.selection) : null,
      one.status === "failed" ? element("li", { class: "bad" }, "failed") : null,
      one.verdict ? element("li", { class: kinds[one.verdict] }, one.verdict) : null,
      one.flipped ? element("li", { class: "mild" }, "reversed") : null,
      element("li", {}, one.origin));
    const scores = element("dl", { class: "scores" });
    for (const [name, key] of [["π", "pi"], ["π dual", "pi_dual"], ["π llm", "pi_llm"], ["margin", "margin"], ["gap", "gap"], ["gap, calibrated", "gap_calibrated"], ["IFD small", "ifd_small"], ["IFD large", "ifd_large"], ["drawn at", "probability"]]) {
      if (!["probability", "margin", "gap_calibrated"].includes(key) || one[key] !== undefined) scores.append(element("div", {}, element("dt", {}, name), element("dd", {}, number(one[key]))));
    }
    return element("section", { class: one.selected ? "card selected" : "card", "aria-label": `${title} ${one.pair_id}` },
      element("h4", {}, `${title}: `, isolated(one.pair_id)), badges, scores,
      one.why ? element("p", { class: "detail" }, isolated(one.why)) : null, ...answers(seed, one), judged(one));
  }

  function show(seed, moveFocus = false) {
    current = seed;
    const { picked, reference } = seed;
    const chosen = [reference && reference !== picked ? card(seed, reference, "Reference") : null,
      picked ? card(seed, picked, picked === reference ? "Selected, the reference" : "Selected") : null];
    const rejected = seed.candidates.filter((c) => c !== picked && c !== reference)
      .sort((a, b) => (a.rank ?? 1e9) - (b.rank ?? 1e9) || a.slot - b.slot);
    const place = shown.indexOf(seed);
    const heading = element("h3", { id: "seed-title", tabindex: "-1" }, place < 0 ? "A seed that the filters hide" : `Seed ${place + 1} of ${shown.length}`);
    const own = element("section", { class: "card", "aria-label": "The seed" }, element("h4", {}, "Seed"),
      ...(seed.system ? part("System prompt", seed.system) : []),
      ...(seed.history || []).flatMap((turn, at) => part(`Turn ${at + 1}, ${turn.role}`, turn.content)),
      ...part("Instruction", seed.instruction), ...part("Response", seed.response || "(empty)"));
    article.replaceChildren(heading,
      element("p", { class: "detail" }, isolated(`${seed.source}, row ${seed.source_row}`), " · shard ", isolated(seed.shard), " · ", element("a", { href: `#seed=${encodeURIComponent(seed.seed_id)}` }, seed.seed_id)),
      element("ul", { class: "badges" }, element("li", { class: seed.state === "best" ? "good" : "mild" }, seed.state),
        seed.domain_name ? element("li", {}, seed.domain_name) : null,
        seed.near_duplicate_of && seed.near_duplicate_of !== seed.seed_id ? element("li", { class: "mild" }, `near-duplicate of ${seed.near_duplicate_of}`) : null,
        seed.left_out_detail ? element("li", { class: "mild" }, seed.left_out_detail) : null),
      element("div", { class: "cards" }, own, ...chosen.filter(Boolean)));
    if (rejected.length) {
      article.append(element("h3", {}, `Rejected: ${rejected.length}`), element("div", { class: "cards" }, ...rejected.map((one) => card(seed, one, "Rejected"))));
    }
    reachable(article);
    article.querySelectorAll("details").forEach((box) => box.addEventListener("toggle", () => reachable(box)));
    mark();
    if (moveFocus) { heading.focus({ preventScroll: true }); heading.scrollIntoView({ block: "nearest" }); }
  }

  // a text that scrolls in its own box can be scrolled with the keyboard too
  function reachable(within) {
    for (const box of within.querySelectorAll(".text")) {
      if (box.scrollHeight > box.clientHeight + 1) { box.tabIndex = 0; box.setAttribute("role", "group"); box.setAttribute("aria-label", box.dataset.of); }
    }
  }

  function go(step) {
    const place = shown.indexOf(current);
    const target = shown[place < 0 ? 0 : Math.min(Math.max(place + step, 0), shown.length - 1)];
    if (target && target !== current) { history.replaceState(null, "", `#seed=${encodeURIComponent(target.seed_id)}`); show(target, true); }
  }

  function follow() {
    const found = /^#seed=(.+)$/.exec(location.hash);
    if (!found) return;
    let wanted = found[1];
    try { wanted = decodeURIComponent(wanted); } catch { /* as it stands */ }
    const seed = seeds.find((one) => one.seed_id === wanted);
    if (seed) { show(seed, true); byId("samples").scrollIntoView(); } else count.textContent = `The seed ${wanted} is not among the samples of this report.`;
  }

  addEventListener("keydown", (event) => {
    const field = event.target.closest("input, select, textarea");
    if (!byId("keys").checked || field || event.ctrlKey || event.metaKey || event.altKey) return;
    const box = byId("samples").getBoundingClientRect();
    if (box.top > innerHeight * 0.7 || box.bottom < 0) return;
    if (event.target.closest(".scroll, .text") && event.key.startsWith("Arrow")) return;
    const step = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (step) { event.preventDefault(); go(step); }
  });
  previous.addEventListener("click", () => { go(-1); });
  next.addEventListener("click", () => { go(1); });
  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { refresh(); if (current && !shown.includes(current) && shown.length) show(shown[0]); }, 120); });
  form.addEventListener("reset", () => setTimeout(refresh));
  addEventListener("hashchange", follow);

  count.textContent = "Reading the samples …";
  unpack().then((found) => {
    seeds = found;
    seeds.forEach((seed, place) => { seed.place = place; prepare(seed); });
    fillFilters();
    refresh();
    follow();
    keepInPlace();
    document.body.dataset.ready = performance.now().toFixed();
  }, (error) => { count.textContent = `The samples could not be read (${error.message}); a browser of 2023 or newer is needed.`; });
})();
