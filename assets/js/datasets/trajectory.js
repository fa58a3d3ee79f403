// One trajectory of a dataset in the inspector's own view; of an imported set, a sample as far as it is known.

function createReader(host) {
  let at = null, record = null, marks = {};
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const name = el('span', { class: 'lr-reader-name' }), marking = el('span', { class: 'lr-reader-marks' });
  const stage = el('div'), lone = el('section', { class: 'lr-card lr-imported', 'aria-label': 'The sample', hidden: true });
  const back = el('button', { type: 'button', text: '\u2039 Back to the dataset', onclick: () => host.close() });
  const node = el('section', { class: 'lr-reader', 'aria-label': 'A trajectory of the dataset', hidden: true }, el('div', { class: 'lr-card lr-reader-bar' }, back, name, marking), error, stage, lone);
  const fail = (text) => { error.hidden = !text; error.textContent = text || ''; return text; };

  const viewer = mountViewer(stage, {
    idle: '',
    kinds: [['link', 'A link that opens this step again, also after a restart'], ['json', 'The trajectory in the format of a trace'], ['csv', 'One row a step'], ['png', 'A picture'], ['html', 'One file that opens anywhere, offline']],
    details: async (run, index) => ({ candidates: record.steps[index].candidates, tokens: record.tokens, why: at.why }),
    take: async (kind, run, { alpha, beta, name: file }) => {
      if (kind === 'link') return (await copied(location.href)) ? 'Link copied' : 'Copy it from the address bar';
      const answer = await host.file(at.problem, at.sample, kind, alpha, beta);
      if (answer.error) return answer.error;
      download(file + '.' + kind, { json: 'application/json', csv: 'text/csv', html: 'text/html' }[kind], answer.content);
      return '';
    },
    address: ({ step, alpha, beta }) => { if (at.ready) { at.step = step; drawMarks(); host.moved(step, { alpha, beta }); } },
  });

  function drawMarks() {
    const { problem, sample, step } = at;
    marking.replaceChildren();
    if (step < 0) return;
    const set = async (kind) => {
      const answer = await host.mark(problem, sample, step, kind);
      if (!answer.error) { if (kind) marks[step] = kind; else delete marks[step]; }
      return fail(answer.error);
    };
    marking.append(el('span', { class: 'lr-muted', text: 'Mark step ' + step }), markButtons('step ' + step, marks[step] || null, set));
  }
  // No trajectory, no amateur: the problem, the prefix and the target are all that was imported.
  function drawSample({ question, prefix, tokens, weights, step, kl }) {
    const order = weights.map((_, i) => i).sort((a, b) => weights[b] - weights[a]);
    lone.replaceChildren(el('h3', { text: 'Step ' + step }),
      el('p', { class: 'lr-verdict lr-yes' }, el('b', { text: 'KL ' + nats(finite(kl)) + ' nats' }), '. Imported: the two models\u2019 own expectations are not known.'),
      el('blockquote', { class: 'lr-question', tabindex: '0', 'aria-label': 'The problem', text: question }),
      el('pre', { class: 'lr-prefix', tabindex: '0', role: 'region', 'aria-label': 'The response before this step' }, el('bdi', { text: prefix || '\u2205' })),
      el('div', { class: 'lr-key' }, el('span', { class: 'lr-target', text: 'Contrastive target' })),
      el('ol', { class: 'lr-rows' }, ...order.map((i) => el('li', { class: 'lr-target-row' }, el('span', { class: 'lr-label', text: tokenLabel(tokens[i]) }),
        el('span', { class: 'lr-bar lr-target' }, el('span', { class: 'lr-track' }, el('i', { style: 'width:' + (weights[i] * 100).toFixed(2) + '%' })), el('span', { class: 'lr-value', text: percent(weights[i]) }))))));
  }
  async function open(problem, sample, step, { alpha, beta }) {
    const mine = (at = { problem, sample, step, ready: false });
    fail('');
    name.textContent = 'Problem ' + problem + (sample ? ', sample ' + sample : '');
    const answer = await host.load(problem, sample, step);
    if (mine !== at) return;
    stage.hidden = !!answer.error || !!answer.sample;
    lone.hidden = !answer.sample;
    if (fail(answer.error)) return;
    if (answer.sample) { marks = answer.sample.mark ? { [step]: answer.sample.mark } : {}; at.ready = true; drawSample(answer.sample); drawMarks(); back.focus({ preventScroll: true }); return; }
    marks = answer.marks;
    record = answer.record;
    at.why = answer.why;
    showRecord(viewer, record);
    viewer.setBeta(beta);
    viewer.setAlpha(alpha);
    at.ready = true;
    if (step >= 0) viewer.select(Math.min(step, record.steps.length - 1), false);
    back.focus({ preventScroll: true });
    node.scrollIntoView({ block: 'start' });
  }
  return { node, open };
}
