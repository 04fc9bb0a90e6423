// What every page can do: light and dark, copying. Pages work without it.
(() => {
  const root = document.documentElement;
  const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* storage may be off */ } };
  const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  if (kept("theme")) root.dataset.theme = kept("theme");
  if (kept("density")) root.dataset.density = kept("density");

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("#theme")?.addEventListener("click", () => {
      const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = isDark ? "light" : "dark";
      keep("theme", root.dataset.theme);
    });
    document.addEventListener("click", (event) => {
      const button = event.target.closest("[data-copy]");
      if (!button) return;
      navigator.clipboard?.writeText(button.dataset.copy);
      button.setAttribute("aria-label", "Copied");
    });
  });
})();
