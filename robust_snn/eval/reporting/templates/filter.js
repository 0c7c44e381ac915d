for (const select of document.querySelectorAll("select[data-filter]")) {
  const show = () => {
    let shown = 0;
    for (const row of document.querySelectorAll("tr[data-threat]")) {
      row.hidden = select.value !== "" && row.dataset.threat !== select.value;
      shown += !row.hidden;
    }
    document.querySelector("#shown").textContent = `${shown} shown`;
  };
  select.addEventListener("change", show);
  show();
}
