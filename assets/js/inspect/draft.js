// @ts-check
// A problem that the user has typed survives a reload of the page, in this tab of the browser.

const KEY = 'lr-draft';
const field = () => /** @type {HTMLTextAreaElement | null} */ (document.querySelector('#lr-question textarea'));
const kept = () => { try { return sessionStorage.getItem(KEY); } catch { return null; } };
function keep(text) {
  try {
    if (text === null) sessionStorage.removeItem(KEY); else sessionStorage.setItem(KEY, text);
  } catch { /* where the browser keeps nothing, nothing is restored */ }
}
function returned() {
  const [how] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType('navigation'));
  return how?.type === 'reload' || how?.type === 'back_forward';
}

/** Keeps what is typed. Returns restore(), to be called once the page has filled the field. */
export function keepDraft() {
  let draft = returned() ? kept() : null, typed = null;
  if (draft === null) keep(null); // of an earlier visit
  document.addEventListener('input', ({ target }) => {
    if (target !== field()) return;
    typed = field().value;
    draft = null;
    keep(typed);
  });
  // another problem was chosen since
  window.addEventListener('pagehide', () => { if (typed !== null && field()?.value !== typed) keep(null); });
  return () => {
    const at = field();
    if (draft === null || !at) return;
    at.value = draft;
    at.dispatchEvent(new Event('input', { bubbles: true }));
  };
}
