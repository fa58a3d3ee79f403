// @ts-check
// Gradio's dropdowns, left by Tab: Gradio 6.31 leaves the list open then, with only the current value in it.
document.addEventListener('keydown', ({ key, target }) => {
  const input = /** @type {HTMLElement} */ (target);
  if (key !== 'Tab' || !input.matches?.('input[role="combobox"][aria-expanded="true"]')) return;
  input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })); // which closes it
}, true);
