"""What a person meets on a page in a browser: contrast of its texts, size of what is pressed, names of inputs."""

CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const luminance = color => {
    const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.slice(0, 3).map(c => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = element => {
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(e);
    return chain.reduce((below, e) => over(rgba(getComputedStyle(e).backgroundColor), below), [255, 255, 255, 1]);
  };
  const ratio = (element, style, below) => {
    let [r, g, b, a] = rgba(style.color);
    for (let e = element; e; e = e.parentElement) a *= getComputedStyle(e).opacity;
    const [dark, light] = [luminance(over([r, g, b, a], below)), luminance(below)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    if (e.closest('[aria-hidden=true], .sr-only')) continue;
    const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join(' ').trim();
    const typed = e.matches('textarea, input:not([type=file], [type=range])') && e.value;
    if (text || typed) found.push([ratio(e, getComputedStyle(e), paper(e)), text || typed]);
    if (e.placeholder && !typed) found.push([ratio(e, getComputedStyle(e, '::placeholder'), paper(e)), e.placeholder]);
    for (const part of ['::before', '::after']) {
      const style = getComputedStyle(e, part);
      const below = over(rgba(style.backgroundColor), paper(e));
      if (/^"\\s*[^"\\s]/.test(style.content)) found.push([ratio(e, style, below), style.content]);
    }
  }
  return found;
}"""
"""WCAG contrast and words of each text that is shown, placeholders and those of the style sheet too."""

PRESSED = """() => {
  const all = document.querySelectorAll('button, summary, textarea, input, [role=button], [role=tab], a[href]');
  return [...all]
    .filter(e => e.checkVisibility({visibilityProperty: true}) && !e.closest('[aria-hidden=true], .hide'))
    .map(e => {
      const box = e.getBoundingClientRect(), name = e.labels?.[0]?.innerText || e.ariaLabel || e.innerText;
      return [box.width, box.height, box.right, name, e.outerHTML.slice(0, 200)];
    });
}"""
"""Width, height, right end and name of each thing that is pressed or written into, and how it is written."""
