// @ts-check
// One address bar for all tabs. `?tab=NAME` names the tab that is shown (without it: Inspect). Each tab has its own
// parameters, which are in the address while it is shown. Parameters that begin with "__" are Gradio's and stay.
//
//   address.get(tab)             the tab's parameters, a URLSearchParams; to be read when the tab is mounted
//   address.set(tab, changes)    the tab's new parameters: {name: value}, null removes one
//   address.open(tab, params)    shows that tab with exactly these parameters
//   address.watch(tab, react)    react(parameters) after open() or a link for this tab
//   address.shown                the tab that is shown; the window gets an event "lr-tab" when it changes
//
// Another tab, or another thing on a tab, is a new entry of the browser's history, so that Back returns to the one
// before; watchers are told as by a link. What only changes the view of a thing, as a threshold does, changes its
// entry.
//
// A plain link, <a href="?tab=datasets&dataset=ID">, does the same as open(), or opens in a new window as usual.

const HOME = 'inspect';
// that name what is shown
const THINGS = ['trace', 'with', 'run', 'dataset', 'problem', 'compare', 'job'];
const opening = new URLSearchParams(location.search), own = new Map(), watchers = new Map();
const internal = [...opening].filter(([name]) => name.startsWith('__'));
let shown = opening.get('tab') || HOME;
let requested = shown; // the tab of the address, until the tab bar exists
let following = false; // while watchers react to an address that is there already
let returned = ''; // the tab that Back or Forward leads to, until it is shown

const button = (tab) => document.getElementById('lr-tab-' + tab + '-button');
const get = (tab) => new URLSearchParams(own.get(tab) || '');
function remember(tab, params) {
  own.set(tab, new URLSearchParams([...params].filter(([name]) => name !== 'tab' && !name.startsWith('__'))));
}
remember(shown, opening);

function write(isNew = false) {
  const q = new URLSearchParams(internal);
  if (shown !== HOME) q.set('tab', shown);
  for (const [name, value] of get(shown)) q.append(name, value);
  const url = location.pathname + (String(q) && '?' + q);
  if (url === location.pathname + location.search) return;
  if (isNew) history.pushState(null, '', url); else history.replaceState(history.state, '', url);
}
function set(tab, changes) {
  const params = get(tab), before = get(tab);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined) params.delete(name); else params.set(name, value);
  }
  remember(tab, params);
  // a link to a tuned expert becomes the comparison that it leads to
  const other = THINGS.some((name) => before.get(name) !== params.get(name)) && !before.has('lens');
  if (tab === shown) write(other && !following);
}
function open(tab, params) {
  if (!button(tab)) return;
  remember(tab, new URLSearchParams(params));
  if (tab !== shown) button(tab)?.click();
  write(true);
  tell(tab);
}
function tell(tab) {
  following = true;
  try { for (const react of watchers.get(tab) || []) react(get(tab)); } finally { following = false; }
}
window.addEventListener('popstate', () => {
  const params = new URLSearchParams(location.search), tab = params.get('tab') || HOME;
  if (!button(tab)) return;
  const same = tab === shown && String(get(tab)) === String(new URLSearchParams(
    [...params].filter(([name]) => name !== 'tab' && !name.startsWith('__'))));
  if (same) return;
  remember(tab, params);
  if (tab !== shown) {
    returned = tab;
    button(tab).click();
  }
  tell(tab);
});
function watch(tab, react) { watchers.set(tab, [...(watchers.get(tab) || []), react]); }

// The tab bar is Gradio's. It is observed from outside, because an event of its own would be a call to the server.
function bar() {
  /** @type {HTMLElement | null} */
  const selected = document.querySelector('#lr-tabs > .tab-wrapper [role="tab"][aria-selected="true"]');
  if (!selected) return false;
  if (requested && !button(requested)) {
    remember(HOME, get(requested));
    shown = HOME;
  } else if (requested && button(requested) !== selected) { // seen again when it is selected
    button(requested).click();
    return true;
  }
  requested = null;
  select(selected.dataset.tabId);
  return true;
}
function select(tab) {
  document.documentElement.classList.remove('lr-opening');
  if (tab === shown) { write(); return; }
  shown = tab;
  write(tab !== returned);
  returned = '';
  window.dispatchEvent(new CustomEvent('lr-tab', { detail: tab }));
}
function follow() { // the bar, once it exists
  if (!bar()) return false;
  const watched = { subtree: true, childList: true, attributes: true, attributeFilter: ['aria-selected'] };
  new MutationObserver(bar).observe(document.querySelector('#lr-tabs > .tab-wrapper'), watched);
  return true;
}
if (!follow()) {
  new MutationObserver((_, arrival) => { if (follow()) arrival.disconnect(); })
    .observe(document.documentElement, { subtree: true, childList: true });
}

document.addEventListener('click', (event) => {
  const link = event.target instanceof Element && event.target.closest('a[href^="?"]');
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey ||
    event.altKey) return;
  const params = new URLSearchParams(link.getAttribute('href'));
  event.preventDefault();
  open(params.get('tab') || HOME, params);
});
document.addEventListener('keydown', (event) => {
  /** @type {NodeListOf<HTMLElement>} */
  const bar = document.querySelectorAll('#lr-tabs [role="tablist"] [role="tab"]'), tabs = [...bar];
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = tabs.findIndex((tab) => tab === event.target);
  if (!step || at < 0) return;
  event.preventDefault();
  const next = tabs[(at + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
});
export const address = { get, set, open, watch, get shown() { return shown; } };
