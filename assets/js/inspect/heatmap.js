// The response as tokens: colour for the metric, an underline for KL above beta, a cut corner where the top-1 tokens
// differ, and on the other side one where training changed the expert's top-1 token.

function createHeatmap(onSelect) {
  const grid = el('div', { class: 'lr-tokens', role: 'listbox', 'aria-label': 'The response, token by token',
    tabindex: '-1' });
  let nodes = [], steps = [], current = -1;

  function add(step) {
    const node = el('span', { class: 'lr-token', role: 'option', 'aria-selected': 'false',
      tabindex: steps.length ? '-1' : '0' });
    const characters = Array.from(step.text);
    const text = characters.length > LONGEST_LABEL ? characters.slice(0, LONGEST_LABEL).join('') + '\u2026' : step.text;
    const blank = text.trim() === '';
    const invisible = new RegExp('(' + CONTROL.source + (blank ? '| )' : ')'), 'u');
    text.split(invisible).forEach((piece, i) => { // every second piece is one invisible character
      if (i % 2 === 0) { if (piece) node.append(piece); return; }
      node.append(el('span', { class: 'lr-glyph', text: piece === ' ' ? '\u2423' : visibleCharacter(piece) }));
      if (piece === '\n') node.append('\n');
    });
    if (text === '') node.append(el('span', { class: 'lr-glyph', text: '\u2205' }));
    node.dataset.index = steps.length;
    nodes.push(node);
    steps.push(step);
    return node;
  }

  function paint(i, metric, beta) {
    const step = steps[i], node = nodes[i], above = isAbove(step, beta);
    node.style.setProperty('--heat', (shade(metric, step) * 100).toFixed(1) + '%');
    node.classList.toggle('lr-above', above);
    node.classList.toggle('lr-differs', !step.agree);
    node.classList.toggle('lr-changed', !!step.tuned_changed);
    node.setAttribute('aria-label', ['Step ' + i + ': ' + tokenName(step.text), 'KL ' + formatNats(step.kl ?? Infinity),
      above && 'above beta', !step.agree && 'the two models prefer different tokens',
      step.tuned_kl !== undefined && 'moved by training ' + formatNats(step.tuned_kl ?? Infinity),
      step.tuned_changed && 'training changed the top-1 token'].filter(Boolean).join(', '));
  }

  function select(i, focus) {
    if (i < 0 || i >= nodes.length) return false;
    const before = nodes[current] || nodes[0];
    before.setAttribute('aria-selected', 'false');
    before.tabIndex = -1;
    current = i;
    nodes[i].setAttribute('aria-selected', 'true');
    nodes[i].tabIndex = 0;
    if (focus) nodes[i].focus({ preventScroll: true });
    const box = grid.getBoundingClientRect(), token = nodes[i].getBoundingClientRect();
    if (token.top < box.top || token.bottom > box.bottom) grid.scrollTop += token.top - box.top - box.height / 2;
    return true;
  }

  // The nearest token on the next line of text, up or down.
  function onLine(direction) {
    if (current < 0) return 0;
    const from = nodes[current].getBoundingClientRect(), middle = from.left + from.width / 2;
    let best = -1, distance = Infinity, line = null;
    for (let i = current + direction; i >= 0 && i < nodes.length; i += direction) {
      const box = nodes[i].getBoundingClientRect();
      if ((box.top - from.top) * direction < from.height * 0.6) continue;
      if (line === null) line = box.top;
      if (Math.abs(box.top - line) > from.height * 0.6) break;
      const off = Math.abs(box.left + box.width / 2 - middle);
      if (off < distance) { distance = off; best = i; }
    }
    return best;
  }

  function nextAbove(direction, beta) {
    let i = current + direction;
    while (steps[i] && !isAbove(steps[i], beta)) i += direction;
    return steps[i] ? i : -1;
  }

  grid.addEventListener('click', (event) => {
    const node = event.target.closest('.lr-token');
    if (node && grid.contains(node)) onSelect(Number(node.dataset.index), true);
  });

  return {
    node: grid,
    reset() { nodes = []; steps = []; current = -1; grid.replaceChildren(); },
    append(more, metric, beta) {
      const follow = grid.scrollHeight - grid.scrollTop - grid.clientHeight < 40;
      const part = document.createDocumentFragment(), first = steps.length;
      for (const step of more) part.append(add(step));
      for (let i = first; i < steps.length; i++) paint(i, metric, beta);
      grid.append(part);
      if (follow) grid.scrollTop = grid.scrollHeight;
    },
    repaint(metric, beta) { for (let i = 0; i < steps.length; i++) paint(i, metric, beta); },
    select, onLine, nextAbove,
    busy(is) { grid.setAttribute('aria-busy', String(is)); },
    get current() { return current; },
  };
}
