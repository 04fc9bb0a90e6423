// The page of a Study: slices with the outlines of the SEG, and verdicts that do not leave the slice.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const KEYS = 2; // colors and dash patterns, by turns
  const AHEAD = 3; // slices that are loaded before they are asked for
  const viewers = new Map();
  const make = (name, attributes) => {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };

  class Viewer {
    constructor(figure, told) {
      this.figure = figure;
      this.told = told;
      this.images = new Map();
      this.stage = figure.querySelector(".stage");
      this.stage.style.aspectRatio = String(told.ratio);
      this.stage.classList.add("measured");
      this.drawing = make("svg", { viewBox: `0 0 ${told.columns} ${told.rows}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "outlines" });
      this.stage.querySelector("img").after(this.drawing);
      this.slider = figure.querySelector("input[type=range]");
      // The slices are those that the SEG lies on; the first picture may have been of another Series.
      const { name, sides, window: look, geometry, slices } = told;
      this.alt = `of ${slices.length}, ${name}`;
      const words = { name, count: slices.length, l: sides[0], r: sides[1], window: look, geometry };
      Object.entries(words).forEach(([key, text]) => { this.stage.querySelector(`.o.${key}, .o .${key}`).textContent = text; });
      figure.querySelector(".ctl").hidden = false;
      this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
      figure.querySelector(".outline").addEventListener("click", () => this.toggle());
      // Elsewhere, and before somebody is in the figure, the wheel and the arrows scroll the page.
      this.stage.addEventListener("wheel", (event) => { if (!figure.contains(document.activeElement)) return; event.preventDefault(); this.go(this.index + Math.sign(event.deltaY)); }, { passive: false });
      this.slider.max = told.slices.length - 1;
      this.go(told.start);
    }

    load(index) {
      if (!this.images.has(index)) {
        const image = new Image();
        image.className = "slice";
        image.src = this.told.slices[index].src;
        image.addEventListener("error", () => this.images.delete(index));
        this.images.set(index, image);
      }
      return this.images.get(index);
    }

    async go(wanted) {
      const index = Math.max(0, Math.min(wanted, this.told.slices.length - 1));
      this.index = index;
      const number = this.told.slices[index].number;
      this.slider.value = index;
      this.slider.setAttribute("aria-valuetext", `Image ${number} of ${this.told.slices.length}`);
      const image = this.load(index);
      try { await image.decode(); } catch { return; } // it is asked for again when it is wanted again
      if (this.index !== index) return; // meanwhile another one is wanted
      image.alt = `Image ${number} ${this.alt}`;
      this.stage.querySelector("img").replaceWith(image);
      this.figure.querySelector(".number").textContent = number;
      this.draw(index);
      this.figure.dataset.index = index;
      for (let step = 1; step <= AHEAD; step += 1) {
        [index + step, index - step].filter((at) => this.told.slices[at]).forEach((at) => this.load(at));
      }
    }

    draw(index) {
      this.drawing.replaceChildren();
      const named = new Set();
      (this.told.outlines[index] || []).forEach(({ finding, points }) => {
        const group = make("g", { class: `f${((finding - 1) % KEYS) + 1}`, "data-finding": finding });
        group.append(make("polygon", { points: points.map((point) => point.join(",")).join(" ") }));
        if (!named.has(finding)) {
          named.add(finding);
          const right = Math.max(...points.map(([x]) => x));
          const top = Math.min(...points.map(([, y]) => y));
          const size = this.told.rows / 30;
          const text = make("text", { x: right + size / 3, y: Math.max(top, size) });
          text.style.fontSize = `${size}px`;
          text.textContent = finding;
          group.append(text);
        }
        this.drawing.append(group);
      });
    }

    jump(finding) {
      const index = this.told.keys[finding];
      if (index !== undefined) this.go(index);
    }

    toggle() {
      const button = this.figure.querySelector(".outline");
      const isOn = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(isOn));
      this.drawing.toggleAttribute("hidden", !isOn);
    }
  }

  const failed = new Set();
  const isLogin = (answer) => answer.status === 401 || new URL(answer.url).pathname === "/login";
  const LOGGED_OUT = "you are not logged in any more; load the page again";
  const tell = (figure, words) => {
    const fault = figure.querySelector(".fault");
    fault.textContent = words;
    fault.hidden = !words;
    if (words) figure.querySelector("details.summary")?.setAttribute("open", "");
  };
  const open = async (figure) => {
    viewers.set(figure, null);
    let answer, told;
    try {
      answer = await fetch(figure.dataset.outlines, { credentials: "same-origin" });
      told = answer.ok && !isLogin(answer) ? await answer.json() : null;
    } catch {
      failed.add(figure); // it is asked again as soon as the node answers
      tell(figure, "Contours are not drawn: the node did not answer. They are asked for again when it does.");
      return;
    }
    if (told) {
      tell(figure, "");
      viewers.set(figure, new Viewer(figure, told));
      figure.dataset.ready = "";
      return;
    }
    tell(figure, isLogin(answer) ? `Contours are not drawn: ${LOGGED_OUT}.` : "Contours are not drawn: they cannot be placed on these images with certainty. See the summary picture.");
  };
  const scan = () => {
    [...viewers.keys()].forEach((figure) => { if (!document.contains(figure)) viewers.delete(figure); });
    document.querySelectorAll("figure[data-outlines]").forEach((figure) => { if (!viewers.has(figure)) open(figure); });
  };
  const again = () => {
    failed.forEach((figure) => viewers.delete(figure));
    failed.clear();
    scan();
  };
  const viewerOf = (element) => viewers.get(element.closest(".answer")?.querySelector("figure[data-outlines]"));

  // A verdict changes its finding only; the page, and the slice, stay.
  const send = async (form, button) => {
    const fields = new URLSearchParams(new FormData(form, button)), id = form.dataset.replaces;
    const refuse = (why) => { form.closest(".finding").querySelector("[role=status]").textContent = `Not kept: ${why}`; };
    let page;
    try {
      const answer = await fetch(form.action, { method: "POST", body: fields, credentials: "same-origin" });
      if (isLogin(answer)) { refuse(LOGGED_OUT); return; }
      if (!answer.ok) { refuse((await answer.json().catch(() => ({}))).detail || "the node did not answer"); return; }
      page = new DOMParser().parseFromString(await answer.text(), "text/html");
    } catch {
      refuse("the node did not answer; send it again");
      return;
    }
    const anew = page.getElementById(id);
    if (!anew) { location.reload(); return; }
    document.getElementById(id).replaceWith(document.adoptNode(anew));
    document.getElementById(id).querySelector("button[name=verdict]")?.focus();
  };

  // What somebody looks at, or types into, is never taken away: that the answers are others is said, and they are shown
  // when asked for. A figure of the same SEG stays, with its slice.
  const offer = (page) => {
    const here = document.getElementById("answers"), fresh = page.getElementById("answers");
    const bar = document.getElementById("changed");
    if (!here || !fresh || !bar || "live" in here.dataset) return;
    bar.hidden = here.dataset.state === fresh.dataset.state;
    bar.querySelector("button").onclick = () => {
      const node = document.importNode(fresh, true);
      node.querySelectorAll("figure[data-outlines]").forEach((figure) => {
        const old = here.querySelector(`figure[data-outlines="${CSS.escape(figure.dataset.outlines)}"]`);
        if (old) figure.replaceWith(old);
      });
      here.replaceWith(node);
      bar.hidden = true;
      node.querySelector("h2")?.scrollIntoView({ block: "nearest" });
    };
  };
  document.addEventListener("live:page", (event) => offer(event.detail));
  document.addEventListener("live:state", (event) => { if (event.detail.state === "live") again(); });

  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.replaces) return;
    event.preventDefault();
    send(event.target, event.submitter);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-goto]");
    if (button) viewerOf(button)?.jump(Number(button.dataset.goto));
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=range]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const viewer = viewers.get(event.target.closest("figure[data-outlines]"));
    if (!viewer) return;
    const steps = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 };
    if (event.key in steps) { event.preventDefault(); viewer.go(viewer.index + steps[event.key]); }
    if (event.key === "c") viewer.toggle();
    if (/^[1-9]$/.test(event.key)) viewer.jump(Number(event.key));
  });
  new MutationObserver(scan).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("DOMContentLoaded", scan);
})();
