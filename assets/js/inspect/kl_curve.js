// KL over the steps, under the text: one bar a step, the beta line, the selected step; where a tuned expert reads along,
// a diamond a step for what training moved.

const TICKS = [0.1, 0.5, 1, 2, 5, 10, 20];

function drawCurve(context, width, height, steps, beta, selected, colours) {
  const left = 34, bottom = 18, top = 8, plotWidth = width - left - 6, plotHeight = height - bottom - top;
  const largest = Math.min(20, Math.max(2, beta * 1.15, ...steps.map((s) => Math.min(20, Math.max(s.kl ?? Infinity, s.tuned_kl ?? 0)))));
  // square root like the colours, so that both tell the same story
  const y = (kl) => top + plotHeight * (1 - Math.sqrt(Math.min(kl, largest) / largest));
  context.clearRect(0, 0, width, height);
  context.font = '11px ' + colours.font;
  context.textBaseline = 'middle';
  context.textAlign = 'right';
  context.lineWidth = 1;
  for (const tick of TICKS.filter((t) => t <= largest)) {
    context.strokeStyle = colours.grid;
    context.beginPath(); context.moveTo(left, Math.round(y(tick)) + 0.5); context.lineTo(width - 6, Math.round(y(tick)) + 0.5); context.stroke();
    context.fillStyle = colours.muted;
    context.fillText(String(tick), left - 6, y(tick));
  }
  const slot = plotWidth / Math.max(steps.length, 24), bar = Math.max(1, slot * 0.72);
  steps.forEach((step, i) => {
    const kl = step.kl ?? Infinity, x = left + i * slot;
    if (i === selected) { context.fillStyle = colours.select; context.fillRect(x - slot * 0.14, top, slot, plotHeight); }
    context.fillStyle = kl > beta ? colours.hot : colours.cool;
    const high = Math.max(1, top + plotHeight - y(kl));
    context.fillRect(x, top + plotHeight - high, bar, high);
  });
  steps.forEach((step, i) => { // after the bars, so that none hides one
    if (step.tuned_kl === undefined) return;
    const middle = left + i * slot + bar / 2, high = y(step.tuned_kl ?? Infinity), half = step.tuned_kl !== null && step.tuned_kl < 0.005 ? 1.5 : Math.min(4, Math.max(2.5, slot * 0.4));
    context.beginPath();
    context.moveTo(middle, high - half); context.lineTo(middle + half, high); context.lineTo(middle, high + half); context.lineTo(middle - half, high);
    context.closePath();
    context.fillStyle = colours.tuned; context.fill();
    if (half > 2) { context.strokeStyle = colours.surface; context.stroke(); }
  });
  context.strokeStyle = colours.ink;
  context.setLineDash([5, 4]);
  context.beginPath(); context.moveTo(left, y(beta)); context.lineTo(width - 6, y(beta)); context.stroke();
  context.setLineDash([]);
  context.strokeStyle = colours.grid;
  context.beginPath(); context.moveTo(left, top + plotHeight + 0.5); context.lineTo(width - 6, top + plotHeight + 0.5); context.stroke();
  context.fillStyle = colours.ink;
  context.textAlign = 'right';
  // a rim in the background's colour: the name stays readable across bars
  context.save();
  context.strokeStyle = colours.surface; context.lineWidth = 3; context.lineJoin = 'round';
  const named = ['\u03b2 = ' + beta.toFixed(2), width - 8, Math.max(8, y(beta) - 8)];
  context.strokeText(...named); context.fillText(...named);
  context.restore();
  context.fillStyle = colours.muted;
  context.textAlign = 'center';
  const every = [1, 5, 10, 20, 50, 100, 200, 500].find((n) => n * slot >= 42) || 1000;
  for (let i = 0; i < Math.max(steps.length, 24); i += every) context.fillText(String(i), left + i * slot + bar / 2, height - 7);
  return { left, slot };
}

function themeColours(node) {
  const style = getComputedStyle(node), read = (name) => style.getPropertyValue(name).trim();
  return { font: style.fontFamily, grid: read('--lr-line'), muted: read('--lr-muted'), ink: read('--lr-ink'),
    hot: read('--lr-hot'), cool: read('--lr-cool'), select: read('--lr-select'), tuned: read('--lr-tuned'), surface: read('--lr-surface'), heat: read('--lr-heat') };
}

function createCurve(onSelect) {
  const canvas = el('canvas', { class: 'lr-curve', 'aria-hidden': 'true' });
  const label = el('div', { class: 'lr-curve-title' });
  const tip = el('div', { class: 'lr-tip', hidden: true });
  const node = el('div', { class: 'lr-curve-box' }, label, canvas, tip);
  let last = null, place = { left: 0, slot: 1 };

  function draw(steps, beta, selected) {
    last = [steps, beta, selected];
    const three = steps.length > 0 && steps[0].tuned_kl !== undefined;
    label.replaceChildren('KL in nats, step by step' + (three ? ': bars expert \u2016 amateur, ' : ''),
      three ? el('span', { class: 'lr-tuned-ink', text: '\u25c6 tuned \u2016 expert' }) : '');
    const box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
    if (!box.width) return;
    canvas.width = Math.round(box.width * scale);
    canvas.height = Math.round(box.height * scale);
    const context = canvas.getContext('2d');
    context.scale(scale, scale);
    place = drawCurve(context, box.width, box.height, steps, beta, selected, themeColours(canvas));
  }
  const at = (event) => {
    const box = canvas.getBoundingClientRect(), i = Math.floor((event.clientX - box.left - place.left) / place.slot);
    return last && i >= 0 && i < last[0].length ? i : -1;
  };
  canvas.addEventListener('click', (event) => { const i = at(event); if (i >= 0) onSelect(i, false); });
  canvas.addEventListener('pointermove', (event) => {
    const i = at(event);
    tip.hidden = i < 0;
    if (i < 0) return;
    const step = last[0][i], box = node.getBoundingClientRect();
    tip.textContent = 'step ' + i + '  ' + tokenLabel(step.text) + '  KL ' + formatNats(step.kl ?? Infinity) + (step.tuned_kl === undefined ? '' : '  moved ' + formatNats(step.tuned_kl ?? Infinity));
    tip.style.left = Math.min(event.clientX - box.left + 10, box.width - 190) + 'px';
  });
  canvas.addEventListener('pointerleave', () => { tip.hidden = true; });
  new ResizeObserver(() => { if (last) draw(...last); }).observe(canvas);
  new MutationObserver(() => { if (last) draw(...last); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
  return { node, draw };
}
