// @ts-check
// Gradio's dropdowns, left by Tab: Gradio 6.31 opens the list at any key but Escape, also at the one that leaves it;
// then it stays open with only the current value in it.
document.addEventListener('keydown', (event) => {
  const input = /** @type {HTMLElement} */ (event.target);
  if (event.key !== 'Tab' || !input.matches?.('input[role="combobox"]')) return;
  input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })); // which closes it
  event.stopPropagation(); // Gradio does not learn of the Tab, and the browser goes on to the next control
}, true);
