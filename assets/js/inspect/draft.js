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

/** Keeps what is typed. Returns restore(last), to be called when the page has filled the field; last: for good. */
export function keepDraft() {
  let draft = returned() ? kept() : null, typed = null;
  if (draft === null) keep(null); // of an earlier visit
  document.addEventListener('input', ({ target }) => {
    if (target !== field()) return;
    typed = field().value;
    draft = null;
    keep(typed);
  });
  for (const sign of ['pointerdown', 'keydown']) { // the form is the user's again
    document.addEventListener(sign, ({ target }) => {
      if (target instanceof Element && target.closest('#lr-side')) draft = null;
    }, true);
  }
  // another problem was chosen since
  window.addEventListener('pagehide', () => { if (typed !== null && field()?.value !== typed) keep(null); });
  return (last = false) => {
    const at = field(), text = draft;
    if (text === null || !at) return;
    if (at.value !== text) {
      at.value = text;
      at.dispatchEvent(new Event('input', { bubbles: true })); // which ends the draft
      draft = last ? null : text;
    }
  };
}
