// What every page can do: light and dark, copying, and following the node. Pages work without it.
(() => {
  const root = document.documentElement;
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* storage may be off */ } };
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  root.dataset.scripted = "";
  if (kept("theme")) root.dataset.theme = kept("theme");
  if (kept("density")) root.dataset.density = kept("density");

  // Following: the server says that something changed, and the page asks for itself anew. Elements with `data-live`
  // and an id are replaced by those of the new page; pages may take over with "live:page" (cancelable) on document.
  const LEAST_MS = 1500, FIRST_WAIT_MS = 1000, LONGEST_WAIT_MS = 30000;
  const live = { isPaused: false, isConnected: false, asOf: new Date() };
  let source = null, wait = FIRST_WAIT_MS, asking = null, isDue = false, timer = 0;
  const tell = (state) => document.dispatchEvent(new CustomEvent("live:state", { detail: { ...live, state } }));

  const openDetails = (element) => [...element.querySelectorAll("details[id][open]")].map((one) => one.id);
  const swap = (old, fresh) => {
    const focused = document.activeElement && old.contains(document.activeElement) ? document.activeElement : null;
    // Nobody loses what they type, or have chosen from.
    if (focused?.matches("input, select, textarea")) return;
    if (old.isEqualNode(fresh)) return;
    const open = openDetails(old), top = old.scrollTop;
    const at = focused && { id: focused.id, href: focused.getAttribute("href"), text: focused.textContent };
    const node = document.importNode(fresh, true);
    old.replaceWith(node);
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    node.scrollTop = top;
    if (!at) return;
    const same = (at.id && document.getElementById(at.id))
      || [...node.querySelectorAll("a, button")].find((one) => (at.href ? one.getAttribute("href") === at.href : one.textContent === at.text))
      || (node.matches("a, button") ? node : null);
    same?.focus({ preventScroll: true });
  };
  const take = (page) => {
    if (!document.dispatchEvent(new CustomEvent("live:page", { detail: page, cancelable: true }))) return;
    document.querySelectorAll("[data-live][id]").forEach((old) => {
      const fresh = page.getElementById(old.id);
      if (fresh && old.dataset.live === "") swap(old, fresh);
    });
  };
  const refresh = async () => {
    if (asking) { isDue = true; return; }
    isDue = false;
    asking = new AbortController();
    try {
      const limit = setTimeout(() => asking?.abort(), 20000);
      const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Live": "1" }, credentials: "same-origin", signal: asking.signal });
      const text = await answer.text();
      clearTimeout(limit);
      // Logged out meanwhile: the page says so, and leads back here.
      if (answer.redirected || answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      take(new DOMParser().parseFromString(text, "text/html"));
      live.asOf = new Date();
      tell(live.isConnected ? "live" : "lost");
    } catch {
      tell("stale");
    } finally {
      asking = null;
      if (isDue) schedule();
    }
  };
  const schedule = () => {
    if (timer || live.isPaused) { isDue = true; return; }
    timer = setTimeout(() => { timer = 0; if (!live.isPaused) refresh(); }, Math.max(0, LEAST_MS - (Date.now() - live.asOf)));
  };
  const connect = () => {
    source = new EventSource("/live");
    source.addEventListener("hello", () => {
      const wasAway = !live.isConnected && wait > FIRST_WAIT_MS;
      live.isConnected = true;
      wait = FIRST_WAIT_MS;
      if (wasAway) schedule(); else tell("live");
    });
    source.addEventListener("changed", schedule);
    source.onerror = () => {
      source.close();
      live.isConnected = false;
      tell("lost");
      setTimeout(connect, wait * (0.5 + Math.random()));
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    };
  };
  const pause = (isPaused) => {
    live.isPaused = isPaused;
    tell(isPaused ? "paused" : live.isConnected ? "live" : "lost");
    if (!isPaused && isDue) schedule();
  };
  window.radnode = { keep, kept, refresh, pause, swap };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("#switch-theme")?.addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      keep("theme", root.dataset.theme);
    });
    document.addEventListener("click", async (event) => {
      const button = event.target.closest("[data-copy]");
      if (!button) return;
      let said = "Copied";
      // Without TLS a browser has no clipboard for a page, and may refuse it on any.
      try { await navigator.clipboard.writeText(button.dataset.copy); } catch { said = "Not copied"; }
      button.dataset.said = said;
      button.setAttribute("aria-label", said);
    });
    // Pages of nobody who has logged in have nothing that lives.
    if (document.querySelector("[data-live]")) connect();
  });
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted && document.querySelector("[data-live]")) connect(); });
})();
