// Puts new markup into a live region by changing only what differs, so that focus, selection and scrolling
// stay, and tells the server what was clicked.

const REGIONS = new WeakMap();

// Now and then Streamlit's own script takes what belongs to the page that was just left for a part of the new one, throws,
// and shows nothing any more. Loading the page mends that; but not again and again, in case it does not.
const BROKEN = /delta path/i;
const PATIENCE = 10_000; // ms
const MENDED = "callboard-mended";

function mend(message) {
  if (!BROKEN.test(message) || Date.now() - Number(sessionStorage.getItem(MENDED)) < PATIENCE) return;
  sessionStorage.setItem(MENDED, Date.now());
  window.location.reload();
}

window.addEventListener("error", (event) => mend(event.message));
window.addEventListener("unhandledrejection", (event) => mend(String(event.reason)));

export function update(component) {
  const { parentElement, data, setTriggerValue } = component;
  const root = parentElement.querySelector(".cb-live");
  if (!root) return;
  if (data.leave) {
    window.location.assign(new URL("login", document.baseURI));
    return;
  }
  let region = REGIONS.get(root);
  if (!region) {
    region = { markup: null };
    REGIONS.set(root, region);
    root.addEventListener("click", (event) => clicked(event, region));
    root.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target.matches("[role=button], tr")) clicked(event, region);
    });
  }
  region.tell = setTriggerValue;
  if (region.markup === data.html) return;
  const fresh = document.createElement("template");
  fresh.innerHTML = data.html;
  if (region.markup === null) root.replaceChildren(fresh.content);
  else children(root, fresh.content);
  region.markup = data.html;
}

function clicked(event, region) {
  const copied = event.target.closest("[data-copy]");
  if (copied) {
    copy(copied);
    return;
  }
  const target = event.target.closest("[data-act]");
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey || event.button > 0) return;
  if (event.target.closest("a") === null && String(window.getSelection())) return;
  event.preventDefault();
  region.tell("act", target.dataset.act);
}

async function copy(element) {
  const text = element.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without HTTPS a browser has no clipboard for pages: select the text so that Ctrl-C takes it.
    const range = document.createRange();
    range.selectNodeContents(element.parentElement.querySelector("code"));
    window.getSelection().removeAllRanges();
    window.getSelection().addRange(range);
    return;
  }
  element.textContent = "Copied";
  setTimeout(() => { element.textContent = "Copy"; }, 1500);
}

const keyOf = (node) => (node.nodeType === 1 ? node.dataset?.key ?? node.getAttribute("data-key") : null);

function children(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) {
    const key = keyOf(child);
    if (key !== null && key !== undefined) keyed.set(key, child);
  }
  let here = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = keyOf(wanted);
    let found = key === null || key === undefined ? null : keyed.get(key);
    if (!found && here && (key === null || key === undefined) && !keyOf(here) && alike(here, wanted)) found = here;
    if (!found) {
      old.insertBefore(wanted, here);
      continue;
    }
    if (found === here) here = here.nextSibling;
    else old.insertBefore(found, here);
    if (alike(found, wanted)) patch(found, wanted);
    else found.replaceWith(wanted);
    keyed.delete(key);
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function patch(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.isEqualNode(fresh)) return;
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  children(old, fresh);
}
