// Brings a result to life: overlay slider, confidence view, the class under the pointer.
// gradio runs this once, with `element` around the HTML of result_view.py and `watch` for changes.

const chosen = {view: 'classes', overlay: 60}; // kept from one result to the next

const find = (selector) => element.querySelector(selector);

function show() {
  if (!find('.photo')) return;
  const confidence = chosen.view === 'confidence';
  find('.backdrop').src = find('.photo').src;
  find('.colors').style.opacity = chosen.overlay / 100;
  find('.colors').hidden = confidence;
  find('.confidence').hidden = !confidence;
  find('input[type=range]').value = chosen.overlay;
  find('input[type=range]').disabled = confidence;
  for (const button of element.querySelectorAll('[data-view]')) {
    button.setAttribute('aria-pressed', button.dataset.view === chosen.view);
  }
}

// The value of one pixel of a grey image that the page holds, whatever size it is shown in.
const dot = document.createElement('canvas');
dot.width = dot.height = 1;
const dotContext = dot.getContext('2d', {willReadFrequently: true});

function pixel(image, x, y) {
  dotContext.drawImage(image, Math.floor(x * image.naturalWidth),
    Math.floor(y * image.naturalHeight), 1, 1, 0, 0, 1, 1);
  return dotContext.getImageData(0, 0, 1, 1).data[0];
}

function clearPointed() {
  for (const output of element.querySelectorAll('output')) output.textContent = '';
  for (const row of element.querySelectorAll('.here')) row.classList.remove('here');
}

function point(event) {
  clearPointed();
  const frame = event.target.closest('.segnet-frame');
  if (!frame || !find('.ids').complete) return;
  const box = frame.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
  const row = find(`[data-id="${pixel(find('.ids'), x, y)}"]`);
  const sure = Math.round(pixel(find('.confidence'), x, y) / 2.55);
  const output = frame.querySelector('output');
  output.textContent = `${row ? row.dataset.name : 'No class'} · ${sure} % sure`;
  output.style.left = `${100 * x}%`;
  output.style.top = `${100 * y}%`;
  // The label keeps clear of the pointer and inside the picture.
  output.style.transform = `translate(${x > 0.5 ? 'calc(-100% - 12px)' : '12px'}, `
    + `${y > 0.5 ? 'calc(-100% - 12px)' : '12px'})`;
  if (row) row.classList.add('here');
}

async function saveOverlay(link) {
  const photo = find('.photo');
  const canvas = document.createElement('canvas');
  canvas.width = photo.naturalWidth;
  canvas.height = photo.naturalHeight;
  const context = canvas.getContext('2d');
  context.drawImage(photo, 0, 0);
  context.globalAlpha = chosen.overlay / 100;
  context.drawImage(find('.colors'), 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement('a'), {href: url, download: link.download}).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

element.addEventListener('input', (event) => {
  if (event.target.type !== 'range') return;
  chosen.overlay = Number(event.target.value);
  show();
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-view]');
  const overlay = event.target.closest('[data-overlay]');
  if (button) {
    chosen.view = button.dataset.view;
    show();
  } else if (overlay) {
    event.preventDefault();
    saveOverlay(overlay);
  }
});
element.addEventListener('pointermove', point);
element.addEventListener('pointerdown', point);
element.addEventListener('pointerleave', (event) => {
  // A finger leaves when it is lifted; what it tapped stays to be read.
  if (event.pointerType === 'mouse') clearPointed();
});

watch('value', () => {
  show();
  // On a phone the result is below what was tapped.
  const top = element.getBoundingClientRect().top;
  if (top > 0.7 * innerHeight || top < -100) element.scrollIntoView({behavior: 'smooth'});
});
show();
