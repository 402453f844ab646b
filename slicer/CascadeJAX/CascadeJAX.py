"""A panel of 3D Slicer that outlines infarcts in the loaded volume with cascade_jax, in a Python of its own."""

import subprocess
import tempfile
import threading
from pathlib import Path

import ctk
import qt
import slicer
from CascadeJAXLib import outside
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget

_POLL_MS = 300


class CascadeJAX(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "Cascade JAX"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["cascade_jax"]
        parent.helpText = (
            "Outlines the left ventricle's cavity, normal myocardium, infarction and no-reflow in a late-gadolinium "
            "short-axis stack. Not a medical device: for research only."
        )
        parent.acknowledgementText = "The method is that of Zhang 2020, arXiv:2012.14128."


class CascadeJAXWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        super().setup()
        self._process, self._lines = None, []
        form = qt.QFormLayout()
        self.layout.addLayout(form)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("Short-axis stack:", self.volume)
        self.python = ctk.ctkPathLineEdit()
        self.python.filters = ctk.ctkPathLineEdit.Files
        self.python.settingKey = "CascadeJAX/Python"
        self.python.toolTip = "The Python of an environment in which cascade_jax is installed: .venv/bin/python"
        form.addRow("Python with cascade_jax:", self.python)
        self.workdir = ctk.ctkPathLineEdit()
        self.workdir.filters = ctk.ctkPathLineEdit.Dirs
        self.workdir.toolTip = "The working folder of a finished training; empty takes the weights in the box."
        form.addRow("Training (optional):", self.workdir)
        self.button = qt.QPushButton("Outline")
        self.button.connect("clicked()", self._start)
        form.addRow(self.button)
        self.status = qt.QLabel()
        self.status.wordWrap = True
        form.addRow(self.status)
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(_POLL_MS)
        self.timer.connect("timeout()", self._look)

    def cleanup(self):
        self.timer.stop()
        if self._process is not None:
            self._process.terminate()

    def _start(self):
        self._node = self.volume.currentNode()
        if self._node is None:
            self.status.text = "Load a volume first."
            return
        self._folder = tempfile.TemporaryDirectory(prefix="cascade_jax-")
        try:
            command = outside.predict_command(self.python.currentPath, self._folder.name, self.workdir.currentPath)
        except ValueError as error:
            self.status.text = str(error)
            return
        self.python.addCurrentPathToHistory()
        path = outside.input_path(self._folder.name)
        path.parent.mkdir()
        if not slicer.util.saveNode(self._node, str(path)):
            self.status.text = "The volume cannot be written as NIfTI."
            return
        # 3D Slicer's own environment variables would lead another Python to 3D Slicer's libraries.
        self._process = subprocess.Popen(
            command,
            env=slicer.util.startupEnvironment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._lines = []
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self.button.enabled, self.status.text = False, "Outlining. The first time programs are compiled, for minutes."
        self.timer.start()

    def _read(self, stream):
        self._lines.extend(stream)

    def _look(self):
        if self._process.poll() is None:
            return
        self.timer.stop()
        self._reader.join()
        self.button.enabled = True
        status, self._process = self._process.returncode, None
        try:
            if reason := outside.fault(status, self._lines):
                raise ValueError(reason)
            self._load(*outside.outlined(self._folder.name))
            self.status.text = f"Done. {outside.confidence(self._folder.name)}"
        except ValueError as error:
            self.status.text = str(error)
        finally:
            self._folder.cleanup()

    def _load(self, labels: Path, colours: Path):
        """Shows the labels as a segmentation, named and coloured by their colour table."""
        table = slicer.util.loadColorTable(str(colours))
        volume = slicer.util.loadLabelVolume(str(labels))
        volume.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{self._node.GetName()} infarct")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self._node)
        slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(volume, segmentation)
        for node in (volume, table):
            slicer.mrmlScene.RemoveNode(node)
