// The states of a job. Each has a word, a sign and a colour; the signs differ without their colours, too.
const STATES = {
  queued: { word: 'Queued', sign: ['M8 4.5V8l2.5 1.5'] },
  running: { word: 'Running', sign: ['M6.3 5.2v5.6L11 8z'] },
  stopping: { word: 'Stopping', sign: ['M5.8 5.8h4.4v4.4H5.8z'] },
  succeeded: { word: 'Succeeded', sign: ['M4.8 8.3l2.2 2.2 4.3-4.7'] },
  failed: { word: 'Failed', sign: ['M5.5 5.5l5 5M10.5 5.5l-5 5'] },
  cancelled: { word: 'Cancelled', sign: ['M4.6 8h6.8'] },
  interrupted: { word: 'Interrupted', sign: ['M8 4.4v4.4M8 11.2v.4'] },
};

function stateSign(state) {
  return svg('svg', { viewBox: '0 0 16 16', 'aria-hidden': 'true', class: 'lr-sign' },
    svg('circle', { cx: 8, cy: 8, r: 7 }),
    ...(STATES[state] || STATES.queued).sign.map((d) => svg('path', { d })));
}
