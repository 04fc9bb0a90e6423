// The worklist: rows change in place, new ones are counted until they are asked for, and keys move along them.
(() => {
  document.addEventListener("DOMContentLoaded", () => {
    const $ = (query) => document.querySelector(query);
    const { keep, kept, pause, refresh, swap } = window.radnode;
    const held = $("#held"), pauseButton = $("#hold"), density = $("#density"), liveChip = $("#live"), keys = $("#keys");
    let waiting = null;
    const rowsOf = (page) => [...page.querySelectorAll("#list tr.row")];
    const links = () => rowsOf(document).map((row) => row.querySelector("a"));
    [pauseButton, density, liveChip, keys].forEach((one) => { one.hidden = false; });

    // Rows never move under the pointer: what is there changes where it stands, what is new waits to be shown.
    const show = () => {
      if (!waiting) return;
      swap($("#list"), waiting);
      waiting = null;
      held.hidden = true;
    };
    const hold = (page, fresh) => {
      waiting = page.getElementById("list");
      const stat = fresh.filter((row) => row.querySelector(".prio[data-p=stat]")).length;
      const urgent = stat ? `, ${stat === fresh.length ? "all" : stat} of them stat` : "";
      held.querySelector("button").textContent = fresh.length
        ? `${fresh.length} new ${fresh.length === 1 ? `study${stat ? ", stat" : ""}` : `studies${urgent}`}: show`
        : "The order changed: show";
      held.hidden = false;
    };
    document.addEventListener("live:page", (event) => {
      const page = event.detail, here = rowsOf(document), coming = rowsOf(page);
      if (!here.length || !coming.length) { swap($("#list"), page.getElementById("list")); held.hidden = true; waiting = null; return; }
      const ids = here.map((row) => row.id), known = new Set(ids);
      const fresh = coming.filter((row) => !known.has(row.id));
      const focused = document.activeElement?.closest?.("tr.row")?.id;
      coming.forEach((row) => {
        const old = document.getElementById(row.id);
        if (!old) return;
        // Cell by cell, so that the link keeps its focus.
        [...row.children].forEach((cell, at) => { if (!old.children[at].isEqualNode(cell)) old.children[at].replaceChildren(...document.importNode(cell, true).childNodes); });
      });
      if (focused && document.activeElement === document.body) document.getElementById(focused)?.querySelector("a")?.focus({ preventScroll: true });
      page.querySelectorAll("#list tbody[data-p]").forEach((group) => {
        const old = $(`#list tbody[data-p="${group.dataset.p}"] tr.group th`);
        if (old) old.replaceChildren(...document.importNode(group.querySelector("tr.group th"), true).childNodes);
      });
      const order = coming.map((row) => row.id);
      if (fresh.length || order.join() !== ids.join()) hold(page, fresh);
      else { held.hidden = true; waiting = null; }
    });
    held.querySelector("button").addEventListener("click", () => { show(); links()[0]?.focus(); });

    // "Live, 09:45:19", or since when not.
    const clock = (at) => at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
    const svg = (shape, kind) => `<svg class="g${kind}" viewBox="0 0 16 16" aria-hidden="true">${shape}</svg>`;
    const DOT = '<circle cx="8" cy="8" r="4" fill="currentColor"/>';
    const STATES = { live: "Live", paused: "Paused" };
    document.addEventListener("live:state", (event) => {
      const { state, asOf } = event.detail;
      // A screen reader is told of another state, not of every second.
      const spoken = $("#live-state"), word = STATES[state] || "Not live";
      if (spoken.textContent !== word) spoken.textContent = word;
      liveChip.innerHTML = state === "live" ? svg(DOT, " pulse") + "<span></span>"
        : state === "paused" ? svg('<use href="#pause"/>', "") + "<span></span>"
          : `<span class="chip" data-s="warning">${svg('<use href="#s-warning"/>', "")}<span></span></span>`;
      liveChip.querySelector("span span, span").textContent = "";
      [...liveChip.querySelectorAll("span")].pop().textContent = STATES[state] ? `${word}, ${clock(asOf)}` : word;
      liveChip.dataset.state = state;
      const isStale = state === "stale" || (state === "lost" && !$("#stale").hidden);
      $("#stale").hidden = !isStale;
      $("#as-of").textContent = clock(asOf);
      $("#list").classList.toggle("old", isStale);
    });
    $("#try").addEventListener("click", refresh);
    pauseButton.addEventListener("click", () => {
      const isPaused = pauseButton.getAttribute("aria-pressed") !== "true";
      pauseButton.setAttribute("aria-pressed", String(isPaused));
      pauseButton.querySelector("span").textContent = isPaused ? "Resume" : "Pause";
      pause(isPaused);
    });

    const root = document.documentElement;
    const mark = () => density.setAttribute("aria-pressed", String(root.dataset.density === "compact"));
    density.addEventListener("click", () => {
      root.dataset.density = root.dataset.density === "compact" ? "" : "compact";
      keep("density", root.dataset.density);
      mark();
    });
    mark();

    const tools = $("#tools");
    const busy = () => setTimeout(() => { $("#list").setAttribute("aria-busy", "true"); $("#list").classList.add("old"); }, 300);
    // The usual choices stay out of the URL.
    tools.addEventListener("formdata", (event) => {
      for (const [name, usual] of [["q", ""], ["modality", ""], ["period", "24h"]]) if (event.formData.get(name) === usual) event.formData.delete(name);
    });
    tools.addEventListener("submit", busy);
    tools.querySelectorAll("select").forEach((one) => one.addEventListener("change", () => tools.requestSubmit()));

    // Single keys can be switched off: who speaks to the browser, or types by mistake, moves nothing.
    const hasKeys = () => keys.getAttribute("aria-pressed") === "true";
    keys.setAttribute("aria-pressed", String(kept("keys") !== "off"));
    keys.addEventListener("click", () => {
      keys.setAttribute("aria-pressed", String(!hasKeys()));
      keep("keys", hasKeys() ? "on" : "off");
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape" && event.target === $("#q")) { $("#q").blur(); return; }
      if (!hasKeys() || event.target.matches("input, textarea, select")) return;
      const all = links(), at = all.indexOf(document.activeElement);
      if (event.key === "/") { event.preventDefault(); $("#q").focus(); $("#q").select(); }
      if (event.key === "j") all[Math.min(at + 1, all.length - 1)]?.focus();
      if (event.key === "k") all[Math.max(at - 1, 0)]?.focus();
      if (event.key === "p") pauseButton.click();
    });
  });
})();
