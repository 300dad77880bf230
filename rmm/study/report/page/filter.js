"use strict";
// What readers choose becomes classes of the body (the rules are in the page's style), and the
// part of the address after #, so that a view can be sent to others. Without this, all is shown.
// A part that an address or a link points into is opened first.
(() => {
  const open = (element) => {
    for (let at = element; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  };
  const openTarget = () => {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) open(document.getElementById(decodeURIComponent(text)));
  };
  window.addEventListener("hashchange", openTarget);
  openTarget();
  const bar = document.getElementById("filter");
  if (!bar) return;
  const boxes = [...bar.querySelectorAll("input")];
  const said = document.getElementById("shown");
  let at = "";

  const hidden = () => boxes.filter((box) => !box.checked);

  const address = () => {
    const parts = new URLSearchParams();
    if (at) parts.set("at", at);
    for (const box of hidden()) parts.append("hide", box.dataset.key);
    return "#" + parts;
  };

  const show = () => {
    for (const box of boxes) document.body.classList.toggle("off-" + box.value, !box.checked);
    const off = hidden().map((box) => "." + box.value).join(",");
    const left = (parts) => [...parts].filter((part) => !off || !part.matches(off)).length;
    for (const figure of document.querySelectorAll("figure"))
      figure.classList.toggle("empty", !left(figure.querySelectorAll(".panel")));
    const counts = [...document.querySelectorAll("[data-count]")].map((list) => {
      const rows = list.children;
      return `${left(rows)} of ${rows.length} ${list.dataset.count}`;
    });
    said.textContent = counts.join(", ");
  };

  const go = () => {
    const target = at && document.getElementById(at);
    open(target);
    if (target) target.scrollIntoView();
  };

  const restore = () => {
    const text = location.hash.slice(1);
    const parts = new URLSearchParams(text.includes("=") ? text : "");
    at = text.includes("=") ? parts.get("at") || "" : text;
    const off = new Set(parts.getAll("hide"));
    for (const box of boxes) box.checked = !off.has(box.dataset.key);
    show();
    go();
  };

  bar.addEventListener("change", () => {
    show();
    history.replaceState(null, "", address());
  });
  bar.querySelector("button").addEventListener("click", () => {
    for (const box of boxes) box.checked = true;
    show();
    history.replaceState(null, "", address());
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("nav a");
    if (!link || !hidden().length) return;
    event.preventDefault();
    at = link.hash.slice(1);
    history.replaceState(null, "", address());
    go();
  });
  window.addEventListener("hashchange", restore);
  bar.hidden = false;
  restore();
})();
