// One trajectory of a dataset in the inspector's own view.

function createReader(host) {
  let at = null, record = null, marks = {};
  const error = el('div', { class: 'lr-error', role: 'alert', hidden: true });
  const name = el('span', { class: 'lr-reader-name' }), marking = el('span', { class: 'lr-reader-marks' });
  const stage = el('div');
  const back = el('button', { type: 'button', text: '\u2039 Back to the dataset', onclick: () => host.close() });
  const node = el('section', { class: 'lr-reader', 'aria-label': 'A trajectory of the dataset', hidden: true }, el('div', { class: 'lr-card lr-reader-bar' }, back, name, marking), error, stage);
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
  async function open(problem, sample, step, { alpha, beta }) {
    const mine = (at = { problem, sample, step, ready: false });
    fail('');
    name.textContent = 'Problem ' + problem + (sample ? ', sample ' + sample : '');
    const answer = await host.load(problem, sample);
    if (mine !== at) return;
    stage.hidden = !!answer.error;
    if (fail(answer.error)) return;
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
